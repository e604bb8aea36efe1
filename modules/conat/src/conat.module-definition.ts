import { ConfigurableModuleBuilder } from '@nestjs/common';
import { z } from 'zod';
import { Authenticator } from './auth/authenticator.js';
import { BrokerLimits } from './broker/limits.js';
import { TcpOptions } from './gateway/tcp-listener.js';
import { Fabric } from './fabric/fabric.js';
import { NatsFabricOptions } from './fabric/nats-options.js';
import { spaceRootDefault } from './edge/space.js';
import { Persistence } from './persistence.js';
import { UpgradeDispatcher } from '@rookery/core';

/** Options of ConatModule; parsed at start, so that all that is wrong is named at once. */
export const ConatOptions = z
  .object({
    /** Tells who a connection is; nobody is let in without. */
    authenticator: z.instanceof(Authenticator),
    limits: BrokerLimits.partial().default({}),
    /** Where clients connect. */
    path: z
      .string()
      .regex(/^\/[\w/-]*$/)
      .default('/conat'),
    /** Also listen for NATS over TCP, with the same broker behind it. */
    tcp: TcpOptions.optional(),
    /** The first token of where the spaces of rooted connections lie. */
    spaceRoot: z
      .string()
      .regex(/^[^\s.*>$]+$/)
      .default(spaceRootDefault),
    /** What keeps messages: `new JetStream(…)` of `@rookery/jetstream`. */
    persistence: z.instanceof(Persistence).optional(),
    /**
     * What joins the brokers of a pool; one process needs nothing. `nats://a,nats://b` (or all
     * options of it) is a NATS cluster, whose JetStream is the pool's: there is no `persistence`.
     */
    fabric: z
      .union([z.literal('in-process'), z.instanceof(Fabric), NatsFabricOptions])
      .default('in-process'),
    /** How long clients are given to leave by themselves when the app stops. */
    drainDeadlineMs: z.int().min(0).default(2_000),
    /** Shown to clients in INFO. */
    name: z.string().default('conat'),
    /** To share the upgrades with what was set up outside of Nest. */
    dispatcher: z.instanceof(UpgradeDispatcher).optional(),
  })
  .refine(({ fabric, persistence }) => !persistence || fabric === 'in-process', {
    path: ['persistence'],
    message: 'a fabric brings its own: leave it out',
  });
export type ConatOptions = z.output<typeof ConatOptions>;
export type ConatOptionsInput = z.input<typeof ConatOptions>;

export const { ConfigurableModuleClass, MODULE_OPTIONS_TOKEN } =
  new ConfigurableModuleBuilder<ConatOptionsInput>().setClassMethodName('forRoot').build();

/** The parsed options. */
export const CONAT_OPTIONS = Symbol('CONAT_OPTIONS');
