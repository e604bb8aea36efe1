/** The first token of all subject spaces of a broker that was not given another. */
export const spaceRootDefault = 'space';

/** Subjects of their own: what a connection in it calls `x` is `<root>.<id>.x` on the broker. */
export interface SubjectSpace {
  /** One token, the same for all spaces of a broker. */
  readonly root: string;
  /** One token. */
  readonly id: string;
}

/** All of a space, as patterns of the broker's subjects: what those inside may be permitted. */
export const spaceSubjects = ({ root, id }: SubjectSpace): string[] => [
  `${root}.${id}.>`,
  `$JS.ACK._.${id}.>`,
  `$JS.FC._.${id}.>`,
];
