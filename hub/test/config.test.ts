import { describe, expect, it } from '@jest/globals';
import { configFromEnvironment } from '../src/config/config.js';

describe('the hub’s settings', () => {
  it('have defaults', () => {
    expect(configFromEnvironment({ ROOKERY_DATA: '/d', PATH: '/bin' })).toMatchObject({
      port: 7700,
      listen: '127.0.0.1',
      publicUrl: 'http://127.0.0.1:7700',
      roles: ['api', 'worker', 'proxy'],
      databaseUrl: undefined,
    });
  });

  it('take no metrics token that is easily guessed', () => {
    const env = { ROOKERY_DATA: '/d', ROOKERY_METRICS_TOKEN: 'short' };
    expect(() => configFromEnvironment(env)).toThrow(/ROOKERY_METRICS_TOKEN/);
  });

  it('take addresses and networks of trusted proxies, and nothing else', () => {
    const of = (list: string) =>
      configFromEnvironment({ ROOKERY_DATA: '/d', ROOKERY_TRUSTED_PROXIES: list }).trustedProxies;
    expect(of('127.0.0.1, 10.0.0.0/8,2001:db8::/32')).toEqual([
      '127.0.0.1',
      '10.0.0.0/8',
      '2001:db8::/32',
    ]);
    expect(() => of('proxy.example')).toThrow(
      /ROOKERY_TRUSTED_PROXIES: proxy.example is no address/,
    );
  });

  it('know where browsers see projects: on this machine by themselves, elsewhere if told', () => {
    const of = (env: Record<string, string>) => {
      const { appsUrl, pathOrigin } = configFromEnvironment({ ROOKERY_DATA: '/d', ...env });
      return [appsUrl, pathOrigin];
    };
    expect(of({ ROOKERY_PORT: '7701' })).toEqual(['http://*.localhost:7701', 'own']);
    expect(of({ ROOKERY_PUBLIC_URL: 'https://rookery.example.com' })).toEqual([undefined, 'own']);
    expect(of({ ROOKERY_APPS_URL: 'https://*.apps.example.com' })[0]).toMatch('apps.example');
    expect(of({ ROOKERY_PATH_ORIGIN: 'shared' })[1]).toBe('shared');
    for (const url of [
      'https://apps.example.com',
      'https://*.apps.example.com/x',
      '*.apps.example',
    ]) {
      expect(() => of({ ROOKERY_APPS_URL: url })).toThrow(/ROOKERY_APPS_URL: must be like/);
    }
  });

  it('name every unknown name at once', () => {
    const env = { ROOKERY_DATA: '/d', ROOKERY_PROT: '1', ROOKERY_COLOUR: 'x' };
    expect(() => configFromEnvironment(env)).toThrow(/ROOKERY_COLOUR, ROOKERY_PROT/);
  });

  it('name every wrong value at once', () => {
    const env = { ROOKERY_DATA: '/d', ROOKERY_PORT: '70000', ROOKERY_ROLES: 'api,dance' };
    expect(() => configFromEnvironment(env)).toThrow(/ROOKERY_PORT.*ROOKERY_ROLES/);
  });

  it('need a data folder', () => {
    expect(() => configFromEnvironment({})).toThrow(/ROOKERY_DATA/);
  });
});
