import type { ConatAccess, ConatConnection, ProjectStreams } from './conat-access.js';
import { connectOverWebSocket } from './conat-connection.js';

/** @param access asked for every connect */
export type ConnectConat = (access: () => Promise<ConatAccess>) => Promise<ConatConnection>;

/** One messaging connection for all of a client's streams, opened when first needed. */
export class ProjectStreamsConnection {
  private opening: Promise<ConatConnection> | undefined;

  constructor(
    private readonly hubUrl: string,
    private readonly createToken: () => Promise<ConatAccess>,
    private readonly connect: ConnectConat = connectOverWebSocket,
  ) {}

  async of(projectId: string): Promise<ProjectStreams> {
    let connection = await this.open();
    if (connection.closed) {
      this.opening = undefined;
      connection = await this.open();
    }
    return connection.streamsOf(projectId);
  }

  async close(): Promise<void> {
    const { opening } = this;
    this.opening = undefined;
    const connection = await opening?.catch(() => undefined);
    await connection?.close();
  }

  private open(): Promise<ConatConnection> {
    if (this.opening) return this.opening;
    const opening = this.connect(async () => {
      const access = await this.createToken();
      return { ...access, url: conatUrl(access.url, this.hubUrl) };
    });
    // A failed attempt must not be remembered.
    opening.catch(() => {
      if (this.opening === opening) this.opening = undefined;
    });
    this.opening = opening;
    return opening;
  }
}

/** The hub names its own address; a relative one (`/conat`) is beneath the URL that we used. */
function conatUrl(url: string, hubUrl: string): string {
  return new URL(url, `${hubUrl.replace(/^http/, 'ws')}/`).href;
}
