import { Module } from '@nestjs/common';
import { AuthService } from './accounts/auth.service.js';
import { AuditService } from './audit/audit.service.js';
import { HUB_CONFIG, type HubConfig } from './config/config.js';
import { HubAuthenticator } from './conat/hub-authenticator.js';
import { HUB_SECRET, hubSecretOf } from './conat/hub-secret.js';
import { DatabaseModule } from './database/database.module.js';
import { EndedMoves } from './hosts/ended-moves.js';
import { HostAccess } from './hosts/host-access.service.js';
import { HostRegistry } from './hosts/host-registry.service.js';
import { PostgresImageTrees } from './hosts/image-trees.service.js';
import { SigningKeys } from './keys/signing-keys.service.js';

/** Who is who: what the messaging broker needs before anything else can run. */
@Module({
  imports: [DatabaseModule],
  providers: [
    AuditService,
    AuthService,
    SigningKeys,
    EndedMoves,
    HostAccess,
    HostRegistry,
    PostgresImageTrees,
    HubAuthenticator,
    {
      provide: HUB_SECRET,
      inject: [HUB_CONFIG],
      useFactory: (config: HubConfig) => hubSecretOf(config),
    },
  ],
  exports: [
    DatabaseModule,
    AuditService,
    AuthService,
    SigningKeys,
    HostRegistry,
    PostgresImageTrees,
    HubAuthenticator,
    HUB_SECRET,
  ],
})
export class IdentityModule {}
