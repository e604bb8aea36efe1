/** The text of the nftables rules; pure, so that tables in tests can read them. */
import { anyLinkPrefix } from '@rookery/core';
import { parseEgressTarget, type Egress, type EgressMode } from '@rookery/core/contract';

/** The host's own policy; its list counts beside every mode but `none`. */
export interface HostEgress {
  readonly mode: EgressMode;
  readonly allow: readonly string[];
}

export interface NetworkRules {
  readonly table: string;
  /** Names of the host's ends of the projects' links start with this. */
  readonly linkPrefix: string;
  readonly cidr: string;
  readonly gateway: string;
  /** Ports of the host that projects may dial at the gateway address: conat's. */
  readonly hostPorts: readonly number[];
  readonly resolvers: readonly string[];
  /** Closed in every mode, beside what is closed anyway. */
  readonly deniedCidrs: readonly string[];
  readonly egress: HostEgress;
}

/** What changes while the host runs. */
export interface ChangingRules {
  /** The networks that the machine itself is in. */
  readonly ownNetworks: readonly string[];
  /** Of each project's link, by its name; undefined: what the host allows. */
  readonly policies: ReadonlyMap<string, Egress | undefined>;
}

/**
 * Closed in every mode: what a machine trusts because it comes from itself, and where clouds hand out
 * credentials. Projects have no IPv6 at all, so that fd00:ec2::254 and its like need no line.
 */
const neverOpen = [
  '0.0.0.0/8',
  '127.0.0.0/8',
  // 169.254.169.254 of most clouds, 169.254.170.2 of containers there.
  '169.254.0.0/16',
  // Alibaba, Oracle and Azure, whose addresses lie elsewhere.
  '100.100.100.200',
  '192.0.0.192',
  '168.63.129.16',
  '224.0.0.0/4',
  '240.0.0.0/4',
];

/** Closed unless the mode is `open`: nobody's public addresses (RFC 6890). */
const internalNetworks = [
  '10.0.0.0/8',
  '100.64.0.0/10',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
];

const isV4 = (address: string): boolean => !address.includes(':');

/** Says no, and ends a connection that was there before. */
const refuse = 'goto refused';

/**
 * The whole table. In one transaction: at no moment is there no rule.
 * @param options.plain leaves out what small kernels lack (`fib`, `reject`).
 * @param options.keepProjects leaves the projects' policies as the kernel has them, for a process
 * that starts beside running containers and does not know them yet.
 */
export function hostRules(
  rules: NetworkRules,
  changing: ChangingRules,
  options: { readonly plain?: boolean; readonly keepProjects?: boolean } = {},
): string {
  const { plain = false, keepProjects = false } = options;
  const refused = [
    'meta l4proto tcp ct state established reject with tcp reset',
    'reject with icmpx admin-prohibited',
  ];
  const chains: Chain[] = [
    { name: 'refused', lines: plain ? ['drop'] : refused },
    ...wayIn(rules, plain),
    ...policies(rules),
    ...wayThrough(rules),
  ];
  const { table } = rules;
  const projects = [...changing.policies].flatMap(([link, egress]) =>
    linkRules(table, link, egress),
  );
  return [
    `table inet ${table} {}`,
    ...(keepProjects ? [] : [`delete table inet ${table}`, `table inet ${table} {}`]),
    `add map inet ${table} projects { type ifname : verdict; }`,
    `add set inet ${table} internal { type ipv4_addr; flags interval; auto-merge; }`,
    `flush set inet ${table} internal`,
    `add element inet ${table} internal { ${closedSet(changing.ownNetworks).join(', ')} }`,
    ...chains.flatMap(({ name, head, lines }) => [
      `add chain inet ${table} ${name}${head === undefined ? '' : ` { ${head} }`}`,
      `flush chain inet ${table} ${name}`,
      ...lines.map((line) => `add rule inet ${table} ${name} ${line}`),
    ]),
    ...projects,
    '',
  ].join('\n');
}

/** One project's policy: takes the place of what there was for its link, in one transaction. */
export function linkRules(table: string, link: string, egress: Egress | undefined): string[] {
  const chain = chainOf(link);
  const add = (rule: string): string => `add rule inet ${table} ${chain} ${rule}`;
  const lines = ((): string[] => {
    switch (egress?.mode) {
      case undefined:
      case 'open':
        return ['accept'];
      case 'internet':
        return ['goto egress_internet'];
      case 'none':
        return [refuse];
      case 'allow-list':
        return [
          'jump egress_names',
          ...egress.allow.map((one) => `${matchOf(one)} accept`),
          refuse,
        ];
    }
  })();
  return [
    `add chain inet ${table} ${chain}`,
    `flush chain inet ${table} ${chain}`,
    ...lines.map(add),
    `add element inet ${table} projects { "${link}" : goto ${chain} }`,
  ];
}

/** `rk1a2b3c-5` → a chain's name, which may have no dash. */
const chainOf = (link: string): string => `of_${link.replaceAll('-', '_')}`;

function closedSet(ownNetworks: readonly string[]): string[] {
  return [...new Set([...internalNetworks, ...ownNetworks.filter(isV4)])];
}

interface Chain {
  readonly name: string;
  /** The hook of a base chain. */
  readonly head?: string;
  readonly lines: readonly string[];
}

/** What comes from projects' links to the host itself. */
function wayIn(rules: NetworkRules, plain: boolean): Chain[] {
  const ours = `"${rules.linkPrefix}*"`;
  return [
    {
      name: 'prerouting',
      head: 'type filter hook prerouting priority raw; policy accept;',
      lines: [
        `iifname ${ours} meta nfproto ipv6 drop`,
        `iifname ${ours} ip saddr != ${rules.cidr} drop`,
        // A source address whose way back is not this link is somebody else's.
        ...(plain ? [] : [`iifname ${ours} fib saddr . iif oif 0 drop`]),
      ],
    },
    {
      name: 'input',
      head: 'type filter hook input priority filter; policy accept;',
      lines: [
        `iifname != ${ours} accept`,
        'ct state established,related accept',
        ...rules.hostPorts.map((port) => `ip daddr ${rules.gateway} tcp dport ${port} accept`),
        `ip daddr ${rules.gateway} icmp type echo-request accept`,
        refuse,
      ],
    },
  ];
}

/**
 * What passes through the host. Each packet that a project sends is judged anew, so that a change
 * of its policy ends the connections that it has.
 */
function wayThrough(rules: NetworkRules): Chain[] {
  const ours = `"${rules.linkPrefix}*"`;
  const any = `"${anyLinkPrefix}*"`;
  return [
    {
      name: 'forward',
      head: 'type filter hook forward priority filter; policy accept;',
      lines: [
        `iifname != ${ours} oifname != ${ours} accept`,
        `iifname != ${ours} ct state established,related accept`,
        `oifname ${any} ${refuse}`,
        'jump host_policy',
        'iifname vmap @projects',
        refuse,
      ],
    },
    {
      name: 'postrouting',
      head: 'type nat hook postrouting priority srcnat; policy accept;',
      lines: [`ip saddr ${rules.cidr} oifname != ${any} masquerade`],
    },
  ];
}

/**
 * `host_policy`: what no project of the host may pass; what it may returns, and the project's own
 * policy is asked. The others are what projects' policies are made from.
 */
function policies({ egress, deniedCidrs, resolvers }: NetworkRules): Chain[] {
  const internal = `ip daddr @internal ${refuse}`;
  const closed = `ip daddr { ${[...neverOpen, ...deniedCidrs.filter(isV4)].join(', ')} } ${refuse}`;
  const beyondList = { open: [], internet: [internal], 'allow-list': [refuse], none: [] };
  const host =
    egress.mode === 'none'
      ? [refuse]
      : [
          // A cloud's resolver may share the metadata server's address: only its port 53 is open.
          ...nameRules(resolvers, 'return'),
          // The operator has said so, whatever it is.
          ...egress.allow.map((one) => `${matchOf(one)} return`),
          closed,
          ...beyondList[egress.mode],
        ];
  return [
    { name: 'egress_names', lines: nameRules(resolvers, 'accept') },
    { name: 'egress_internet', lines: ['jump egress_names', closed, internal, 'accept'] },
    { name: 'host_policy', lines: host },
  ];
}

function nameRules(resolvers: readonly string[], verdict: string): string[] {
  return resolvers
    .filter(isV4)
    .map((address) => `ip daddr ${address} meta l4proto { tcp, udp } th dport 53 ${verdict}`);
}

/** The packets to one entry of an allow list. */
function matchOf(target: string): string {
  const parts = parseEgressTarget(target);
  if (!parts) throw new TypeError(`${target} was not parsed before`);
  const { cidr, firstPort, lastPort, protocol } = parts;
  const to = `ip daddr ${cidr}`;
  if (firstPort === undefined || lastPort === undefined) return to;
  const ports = firstPort === lastPort ? String(firstPort) : `${firstPort}-${lastPort}`;
  const protocols = protocol ?? '{ tcp, udp }';
  return `${to} meta l4proto ${protocols} th dport ${ports}`;
}

/**
 * Inside a container: what the host dials reaches services that listen only on 127.0.0.1 too.
 */
export const containerRules = [
  'table ip rookery {',
  '  chain prerouting {',
  '    type nat hook prerouting priority dstnat; policy accept;',
  '    iifname "eth0" tcp dport 1-65535 dnat to 127.0.0.1',
  '  }',
  '}',
  '',
].join('\n');
