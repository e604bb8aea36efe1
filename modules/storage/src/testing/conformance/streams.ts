import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { MiB, newId } from '@rookery/core';
import { quotaBytes, type ConformanceSuite } from './suite.js';

export function streamsConform(suite: ConformanceSuite): void {
  const { describe, it, expect } = suite.jest;
  const { coded, put, get, make } = suite;

  describe('streams', () => {
    const land = async (): Promise<{ moveId: string; id: string }> => {
      const moveId = newId();
      const id = newId();
      await suite.driver.prepareLanding(moveId, id);
      await suite.driver.prepareLanding(moveId, id);
      return { moveId, id };
    };

    it('are refused by a driver that has none', async () => {
      if (suite.driver.capabilities.sendReceive) return;
      const id = await make();
      const refused = coded('MOVE_UNSUPPORTED');
      await expect(suite.driver.prepareLanding(newId(), newId())).rejects.toEqual(refused);
      await expect(
        suite.driver.receive(Readable.from([]), { moveId: newId(), item: 'snapshot.a' }),
      ).rejects.toEqual(refused);
      await expect(
        buffer(suite.driver.send({ kind: 'frozen', projectId: id, name: 'move-1' })),
      ).rejects.toEqual(refused);
      await expect(
        suite.driver.activateLanding(newId(), id, { snapshots: [], live: 'x.y', quotaBytes }),
      ).rejects.toEqual(refused);
      await suite.driver.dropLanding(newId());
    });

    it('carry a project whole: snapshots, deltas, persistence, quota last', async () => {
      if (!suite.driver.capabilities.sendReceive) return;
      const from = await make();
      await put(from, 'a', 'one');
      const snapshot = await suite.driver.createSnapshot(from, 'keep');
      await put(from, 'a', 'two');
      const paths = (await suite.driver.volume(from))?.paths;
      await writeFile(join(paths?.persistence ?? '', 'store'), 'log');
      await using picture = await suite.driver.freeze(from, 'move-1');
      const { moveId, id } = await land();
      const first = await suite.driver.receive(
        suite.driver.send({ kind: 'snapshot', projectId: from, name: 'keep' }),
        { moveId, item: 'snapshot.keep' },
      );
      expect(first).toEqual({
        item: 'snapshot.keep',
        receivedUuid: snapshot.uuid,
        readOnly: true,
      });
      const delta = await suite.driver.receive(
        suite.driver.send(
          { kind: 'frozen', projectId: from, name: 'move-1' },
          { parent: { kind: 'snapshot', projectId: from, name: 'keep' } },
        ),
        { moveId, item: 'delta.move-1' },
      );
      expect(delta.receivedUuid).toBe(picture.uuid);
      const persistence = await suite.driver.receive(
        suite.driver.send({ kind: 'persistence', projectId: from, name: 'move-1' }),
        { moveId, item: 'persistence.move-1' },
      );
      expect(persistence.receivedUuid).toBe(picture.persistenceUuid);
      expect((await suite.driver.listLanding(moveId)).map((r) => r.item).sort()).toEqual([
        'delta.move-1',
        'persistence.move-1',
        'snapshot.keep',
      ]);
      const plan = {
        snapshots: [{ item: 'snapshot.keep', name: 'keep', locked: true, createdAt: 12345 }],
        live: 'delta.move-1',
        persistence: 'persistence.move-1',
        quotaBytes,
      };
      expect(await suite.driver.activateLanding(moveId, id, plan)).toEqual({ overQuota: false });
      expect(await suite.driver.activateLanding(moveId, id, plan)).toEqual({ overQuota: false });
      await suite.driver.dropLanding(moveId);
      await suite.driver.dropLanding(moveId);
      expect(await get(id, 'a')).toBe('two');
      const arrived = (await suite.driver.volume(id))?.paths;
      expect(await readFile(join(arrived?.persistence ?? '', 'store'), 'utf8')).toBe('log');
      await put(id, 'a', 'three');
      expect(await suite.driver.listSnapshots(id)).toMatchObject([
        { name: 'keep', locked: true, createdAt: 12345, uuid: snapshot.uuid },
      ]);
      expect((await suite.driver.usage(id)).limitBytes).toBe(quotaBytes);
      await suite.driver.setSnapshotLocked(id, 'keep', false);
      await suite.driver.restoreSnapshot(id, 'keep');
      expect(await get(id, 'a')).toBe('one');
    });

    it('flag a project that uses more than its quota', async () => {
      if (!suite.driver.capabilities.sendReceive) return;
      const from = await make();
      await put(from, 'big', randomBytes(8 * MiB));
      await using _picture = await suite.driver.freeze(from, 'move-1');
      const { moveId, id } = await land();
      const source = { kind: 'frozen', projectId: from, name: 'move-1' } as const;
      await suite.driver.receive(suite.driver.send(source), { moveId, item: 'delta.move-1' });
      const plan = { snapshots: [], live: 'delta.move-1', quotaBytes: 4 * MiB };
      expect(await suite.driver.activateLanding(moveId, id, plan)).toEqual({ overQuota: true });
      await suite.driver.dropLanding(moveId);
    });

    it('leave nothing when truncated, empty, garbage or doubled, and can be repeated', async () => {
      if (!suite.driver.capabilities.sendReceive) return;
      const from = await make();
      await put(from, 'a', randomBytes(256 * 1024));
      await using _picture = await suite.driver.freeze(from, 'move-1');
      const source = { kind: 'frozen', projectId: from, name: 'move-1' } as const;
      const whole = await buffer(suite.driver.send(source));
      const { moveId } = await land();
      const landing = { moveId, item: 'delta.move-1' };
      const bad = [
        whole.subarray(0, whole.length - 1),
        whole.subarray(0, Math.floor(whole.length / 2)),
        whole.subarray(0, 5),
        Buffer.alloc(0),
        randomBytes(4096),
        Buffer.concat([whole, whole]),
      ];
      for (const bytes of bad) {
        await expect(suite.driver.receive(Readable.from([bytes]), landing)).rejects.toEqual(
          coded('STREAM_INVALID'),
        );
        expect(await suite.driver.listLanding(moveId)).toEqual([]);
      }
      const first = await suite.driver.receive(Readable.from([whole]), landing);
      expect(await suite.driver.receive(Readable.from([whole]), landing)).toEqual(first);
      expect(await suite.driver.listLanding(moveId)).toEqual([first]);
      await suite.driver.dropLanding(moveId);
      await expect(suite.driver.receive(Readable.from([whole]), landing)).rejects.toEqual(
        coded('LANDING_NOT_FOUND'),
      );
    });

    it('stop when canceled and leave nothing', async () => {
      if (!suite.driver.capabilities.sendReceive) return;
      const from = await make();
      await put(from, 'a', randomBytes(MiB));
      await using _picture = await suite.driver.freeze(from, 'move-1');
      const source = { kind: 'frozen', projectId: from, name: 'move-1' } as const;
      const whole = await buffer(suite.driver.send(source));
      const { moveId } = await land();
      const cancel = new AbortController();
      const stream = new PassThrough();
      stream.write(whole.subarray(0, whole.length / 2));
      const receiving = suite.driver.receive(
        stream,
        { moveId, item: 'delta.move-1' },
        { signal: cancel.signal },
      );
      cancel.abort();
      await expect(receiving).rejects.toEqual(coded('CANCELED'));
      expect(await suite.driver.listLanding(moveId)).toEqual([]);
      await suite.driver.dropLanding(moveId);
    });

    it('need all that the plan names, and a place that is free', async () => {
      if (!suite.driver.capabilities.sendReceive) return;
      const { moveId, id } = await land();
      await expect(
        suite.driver.activateLanding(moveId, id, { snapshots: [], live: 'delta.none', quotaBytes }),
      ).rejects.toEqual(coded('LANDING_INCOMPLETE'));
      expect(await suite.driver.volume(id)).toBeUndefined();
      await suite.driver.dropLanding(moveId);
      const taken = await make();
      await expect(suite.driver.prepareLanding(newId(), taken)).rejects.toEqual(
        coded('VOLUME_EXISTS'),
      );
      await expect(
        buffer(suite.driver.send({ kind: 'snapshot', projectId: taken, name: 'none' })),
      ).rejects.toEqual(coded('SNAPSHOT_NOT_FOUND'));
    });
  });
}
