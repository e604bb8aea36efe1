import { z } from 'zod';

/** Whose a host name is. `foreign`: below the domain of projects, and the name of none. */
export type OriginName =
  | { readonly kind: 'other' }
  | { readonly kind: 'foreign' }
  | { readonly kind: 'project'; readonly projectId: string; readonly port: number };

const template = /^(https?):\/\/\*\.([a-z0-9-]+(?:\.[a-z0-9-]+)*)(:\d{1,5})?\/?$/i;
const projectLabel =
  /^([1-9]\d{0,4})--([0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12})$/;

/** The setting: `https://*.apps.example.com`. */
export const AppsUrl = z
  .string()
  .regex(
    template,
    'must be like https://*.apps.example.com, a name below which all names are ours',
  );

/**
 * The origins under which browsers see what projects serve: `<port>--<project>.<domain>`, one for
 * each port of each project, so that a browser keeps their pages apart from the hub's and from each
 * other.
 */
export class ProjectOrigins {
  private readonly scheme: string;
  private readonly domain: string;
  private readonly port: string;
  private readonly hubHost: string;

  /**
   * @param appsUrl `https://*.<domain>[:<port>]`
   * @param hubUrl the hub's own address, which may lie below the domain
   */
  constructor(appsUrl: string, hubUrl: string) {
    const [, scheme = '', domain = '', port = ''] = template.exec(appsUrl) ?? [];
    if (domain === '') throw new TypeError(`${appsUrl} is not like https://*.apps.example.com`);
    this.scheme = scheme.toLowerCase();
    this.domain = domain.toLowerCase();
    // As browsers write it: without the scheme's own port.
    const own = new URL(`${this.scheme}://x${port}`).port;
    this.port = own === '' ? '' : `:${own}`;
    this.hubHost = new URL(hubUrl).hostname;
  }

  get secure(): boolean {
    return this.scheme === 'https';
  }

  /** For Content-Security-Policy: all of them. */
  get pattern(): string {
    return `${this.scheme}://*.${this.domain}${this.port}`;
  }

  /** The origin, without a slash at its end. */
  originOf(projectId: string, port: number | string): string {
    return `${this.scheme}://${port}--${projectId}.${this.domain}${this.port}`;
  }

  /** What a Host header names; its port may be another one before a load balancer. */
  nameOf(host: string | undefined): OriginName {
    const name = host?.toLowerCase().replace(/:\d*$/, '') ?? '';
    // A dot at the end makes another origin of the same address.
    const plain = name.replace(/\.$/, '');
    if (!plain.endsWith(`.${this.domain}`) || plain === this.hubHost) return { kind: 'other' };
    const [, port, projectId] = projectLabel.exec(name.slice(0, -this.domain.length - 1)) ?? [];
    if (projectId === undefined || Number(port) > 65_535 || name !== plain) {
      return { kind: 'foreign' };
    }
    return { kind: 'project', projectId, port: Number(port) };
  }

  /** Whether an Origin header is that of any port of the project. */
  isOriginOf(origin: string, projectId: string): boolean {
    const url = URL.canParse(origin) ? new URL(origin) : undefined;
    const found = this.nameOf(url?.hostname);
    if (found.kind !== 'project' || found.projectId !== projectId) return false;
    return origin === this.originOf(projectId, found.port);
  }
}
