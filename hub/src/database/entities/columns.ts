/** Byte counts are below 2^53: int8 columns are read as numbers. */
export const asNumber = {
  to: (value: number | null | undefined) => value,
  from: (value: string | null) => (value === null ? null : Number(value)),
};
