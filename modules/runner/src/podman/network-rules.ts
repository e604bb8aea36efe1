/** The text of the nftables rules; pure, so that tables in tests can read them. */
import { anyLinkPrefix } from '@rookery/core';

export interface NetworkRules {
  readonly table: string;
  /** Names of the host's ends of the projects' links start with this. */
  readonly linkPrefix: string;
  readonly cidr: string;
  readonly gateway: string;
  /** Ports of the host that projects may dial at the gateway address: conat's. */
  readonly hostPorts: readonly number[];
  readonly resolvers: readonly string[];
  readonly deniedCidrs: readonly string[];
  readonly egress: 'internet' | 'none';
}

/**
 * Replaces the host's whole table in one transaction: at no moment is there no rule.
 * @param plain leaves out what small kernels lack (`fib`, `reject`).
 */
export function hostRules(rules: NetworkRules, plain = false): string {
  const ours = `"${rules.linkPrefix}*"`;
  const refuse = plain ? 'drop' : 'reject with icmpx admin-prohibited';
  const resolvers = rules.resolvers.filter((address) => !address.includes(':'));
  const lines = [
    `table inet ${rules.table} {}`,
    `delete table inet ${rules.table}`,
    `table inet ${rules.table} {`,
    '  chain prerouting {',
    '    type filter hook prerouting priority raw; policy accept;',
    `    iifname ${ours} meta nfproto ipv6 drop`,
    `    iifname ${ours} ip saddr != ${rules.cidr} drop`,
    // A source address whose way back is not this link is somebody else's.
    ...(plain ? [] : [`    iifname ${ours} fib saddr . iif oif 0 drop`]),
    '  }',
    '  chain input {',
    '    type filter hook input priority filter; policy accept;',
    `    iifname != ${ours} accept`,
    '    ct state established,related accept',
    ...rules.hostPorts.map((port) => `    ip daddr ${rules.gateway} tcp dport ${port} accept`),
    `    ip daddr ${rules.gateway} icmp type echo-request accept`,
    `    ${refuse}`,
    '  }',
    '  chain forward {',
    '    type filter hook forward priority filter; policy accept;',
    `    iifname != ${ours} oifname != ${ours} accept`,
    '    ct state established,related accept',
    `    oifname "${anyLinkPrefix}*" ${refuse}`,
    ...(rules.egress === 'internet' ? egressRules(rules, resolvers, refuse) : [`    ${refuse}`]),
    '  }',
    '  chain postrouting {',
    '    type nat hook postrouting priority srcnat; policy accept;',
    `    ip saddr ${rules.cidr} oifname != "${anyLinkPrefix}*" masquerade`,
    '  }',
    '}',
    '',
  ];
  return lines.join('\n');
}

/** A cloud's resolver may share the metadata server's address: only its port 53 is open. */
function egressRules(rules: NetworkRules, resolvers: readonly string[], refuse: string): string[] {
  return [
    ...resolvers.map(
      (address) => `    ip daddr ${address} meta l4proto { tcp, udp } th dport 53 accept`,
    ),
    ...rules.deniedCidrs
      .filter((cidr) => !cidr.includes(':'))
      .map((cidr) => `    ip daddr ${cidr} ${refuse}`),
    '    accept',
  ];
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
