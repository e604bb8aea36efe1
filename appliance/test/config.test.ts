import { describe, expect, it } from '@jest/globals';
import { configFromEnvironment } from '../src/config/config.js';

const least = {
  ROOKERY_DATA: '/srv/host',
  ROOKERY_HUB_URL: 'http://hub.example:7700/',
  ROOKERY_HOST_NAME: 'one',
  ROOKERY_CACHE: '/nonexistent',
};

describe('the host’s settings', () => {
  it('need little', () => {
    expect(configFromEnvironment(least)).toMatchObject({
      hubUrl: 'http://hub.example:7700',
      publicUrl: 'http://127.0.0.1:7710',
      internalUrl: 'http://127.0.0.1:7710',
      backup: undefined,
      localImages: {},
      paths: { volume: '/srv/host/volume' },
    });
  });

  it('name every unknown name', () => {
    const env = { ...least, ROOKERY_PROT: '1', ROOKERY_HUB: 'x', OTHER: 'y' };
    expect(() => configFromEnvironment(env)).toThrow('unknown names: ROOKERY_HUB, ROOKERY_PROT');
  });

  it('name everything that is wrong at once', () => {
    const env = {
      ...least,
      ROOKERY_DATA: 'relative',
      ROOKERY_PORT: '70000',
      ROOKERY_PROJECT_CIDR: '10.0.0.0',
      ROOKERY_LOCAL_IMAGES: '{',
      ROOKERY_HOST_KEY: 'A b',
      ROOKERY_EGRESS: 'all',
      ROOKERY_EGRESS_ALLOW: '10.0.0.0/33',
    };
    let message = '';
    try {
      configFromEnvironment(env);
    } catch (error) {
      message = (error as Error).message;
    }
    for (const name of Object.keys(env).filter(
      (key) => !(key in least) || key === 'ROOKERY_DATA',
    )) {
      expect(message).toContain(name);
    }
  });

  it('close what is internal unless told otherwise', () => {
    expect(configFromEnvironment(least).egress).toEqual({ mode: 'internet', allow: [] });
    const env = {
      ...least,
      ROOKERY_EGRESS: 'allow-list',
      ROOKERY_EGRESS_ALLOW: '10.0.0.5:5432/tcp, 203.0.113.0/24',
    };
    expect(configFromEnvironment(env).egress).toEqual({
      mode: 'allow-list',
      allow: ['10.0.0.5:5432/tcp', '203.0.113.0/24'],
    });
  });

  it('want repository and password of backups together', () => {
    const env = { ...least, ROOKERY_BACKUP_REPOSITORY: '/srv/backups' };
    expect(() => configFromEnvironment(env)).toThrow('belong together');
  });

  it('bracket an IPv6 address in the URL', () => {
    expect(configFromEnvironment({ ...least, ROOKERY_LISTEN: '::1' }).publicUrl).toBe(
      'http://[::1]:7710',
    );
  });
});
