import type { MigrationInterface, QueryRunner } from 'typeorm';

/** What hosts say that their images hold; of each image the first word counts. */
export class ImageTrees1700000000022 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE image_trees (
        seq bigserial NOT NULL,
        image_digest text NOT NULL,
        host_id uuid NOT NULL REFERENCES project_hosts (id),
        tree_digest text NOT NULL,
        said_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (image_digest, host_id, tree_digest)
      );
      CREATE INDEX image_trees_first ON image_trees (image_digest, seq);
      CREATE INDEX image_trees_host ON image_trees (host_id, said_at)`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE image_trees');
  }
}
