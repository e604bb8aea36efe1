import { isIPv6, type Socket } from 'node:net';
import type { SshLimits } from './ssh-limits.js';

interface Stranger {
  readonly source: string;
  /** Has shown the key of a host that may send a move now. */
  isPeer: boolean;
}

/**
 * Which connections have a place. Whoever connects gets in, and where there is no place for one
 * more stranger another one goes: of those who log in none waits long, of those who only wait none
 * is missed. It goes from the address that has the most of them, so that a crowd displaces itself,
 * and it is chosen by chance, so that nobody can tell how long a place lasts. From half of the
 * places on one goes now and then (random early drop). A host that has shown the key of an
 * authorized move keeps its place, and projects' logins leave some for such hosts.
 */
export class SshAdmission {
  private readonly sockets = new Set<Socket>();
  /** Those that have not authenticated yet. */
  private readonly strangers = new Map<Socket, Stranger>();
  private readonly logins = new Map<Socket, string>();

  constructor(
    private readonly limits: SshLimits,
    private readonly random: () => number = Math.random,
  ) {}

  get all(): ReadonlySet<Socket> {
    return this.sockets;
  }

  /** @returns whether it has a place; another stranger may have lost its own */
  admit(socket: Socket): boolean {
    const { connectionsMax, unauthenticatedMax, unauthenticatedPerAddressMax } = this.limits;
    const source = sourceOf(socket.remoteAddress ?? '');
    const ownCount = this.waiting().filter((one) => one.source === source).length;
    if (ownCount >= unauthenticatedPerAddressMax) this.dropOne(source);
    else if (this.strangers.size >= unauthenticatedMax) this.dropOne();
    else if (this.random() < this.earlyDropChance()) this.dropOne();
    if (this.strangers.size >= unauthenticatedMax || this.sockets.size >= connectionsMax) {
      return false;
    }
    this.sockets.add(socket);
    this.strangers.set(socket, { source, isPeer: false });
    socket.once('close', () => this.forget(socket));
    return true;
  }

  isStranger(socket: Socket): boolean {
    return this.strangers.has(socket);
  }

  /** Its signature is not checked yet: only so many get this far. */
  showedPeerKey(socket: Socket): void {
    const stranger = this.strangers.get(socket);
    const peers = this.waiting().filter(({ isPeer }) => isPeer).length;
    if (stranger && peers < this.limits.transferReserve) stranger.isPeer = true;
  }

  /**
   * It has logged in.
   * @param login of a project; absent: a host with a move to send
   * @returns false when projects, or this one, have as many connections as they may
   */
  settle(socket: Socket, login?: string): boolean {
    this.strangers.delete(socket);
    if (login === undefined) return true;
    const { connectionsMax, unauthenticatedMax, transferReserve } = this.limits;
    const projectsMax = connectionsMax - unauthenticatedMax - transferReserve;
    const own = [...this.logins.values()].filter((other) => other === login).length;
    if (this.logins.size >= projectsMax || own >= this.limits.connectionsPerLoginMax) return false;
    this.logins.set(socket, login);
    return true;
  }

  private waiting(): readonly Stranger[] {
    return [...this.strangers.values()];
  }

  /** 0 up to half of the places, then more with each that is taken. */
  private earlyDropChance(): number {
    const half = this.limits.unauthenticatedMax / 2;
    return (this.strangers.size - half) / half;
  }

  private dropOne(source = this.mostCrowded()): void {
    const candidates = [...this.strangers].filter(
      ([, stranger]) => stranger.source === source && !stranger.isPeer,
    );
    const chosen = candidates[Math.floor(this.random() * candidates.length)]?.[0];
    if (!chosen) return;
    this.forget(chosen);
    chosen.destroy();
  }

  private mostCrowded(): string | undefined {
    const counts = new Map<string, number>();
    for (const { source, isPeer } of this.waiting()) {
      if (!isPeer) counts.set(source, (counts.get(source) ?? 0) + 1);
    }
    return [...counts].sort(([, one], [, other]) => other - one)[0]?.[0];
  }

  private forget(socket: Socket): void {
    this.sockets.delete(socket);
    this.strangers.delete(socket);
    this.logins.delete(socket);
  }
}

/** Who has one address of IPv6 has its whole /64. */
function sourceOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  if (!isIPv6(address)) return address;
  const [head = '', tail] = address.split('%', 1).join('').split('::');
  const groups = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : Math.max(8 - groups.length - after.length, 0);
  const whole = [...groups, ...Array.from({ length: zeros }, () => '0'), ...after];
  return whole.slice(0, 4).join(':');
}
