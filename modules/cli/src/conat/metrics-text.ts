/** Numbers of a Prometheus text: by name, and by name with labels. */
export class MetricsText {
  private readonly samples: { name: string; labels: string; value: number }[] = [];

  constructor(text: string) {
    for (const line of text.split('\n')) {
      const match = /^([a-zA-Z_:][\w:]*)(\{[^}]*\})? (\S+)/.exec(line);
      if (!match) continue;
      const [, name = '', labels = '', value] = match;
      this.samples.push({ name, labels, value: Number(value) });
    }
  }

  /** The sum over all labels; undefined when there is no such metric. */
  sum(name: string): number | undefined {
    const found = this.samples.filter((sample) => sample.name === name);
    return found.length === 0 ? undefined : found.reduce((sum, { value }) => sum + value, 0);
  }

  /** By the value of one label. */
  by(name: string, label: string): Record<string, number> {
    const found: Record<string, number> = {};
    for (const sample of this.samples) {
      const value = new RegExp(`[{,]${label}="([^"]*)"`).exec(sample.labels)?.[1];
      if (sample.name === name && value !== undefined) found[value] = sample.value;
    }
    return found;
  }
}
