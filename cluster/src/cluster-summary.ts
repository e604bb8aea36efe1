import { z } from 'zod';
import type { HostView, ProjectView } from '@rookery/api';

/** What the hub leaves at its first start; the token is the first administrator's. */
export const Login = z.looseObject({ token: z.string().min(1) });

/** What `up` leaves. */
export interface ClusterSummary {
  readonly url: string;
  readonly dataDir: string;
  /** Signs a browser in once and shows the first project's page. */
  readonly loginUrl: string;
  readonly hosts: HostView[];
  /** Null when it was deleted meanwhile. */
  readonly project: ProjectView | null;
}
