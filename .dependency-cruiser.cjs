/** The layers of the house: hub|appliance -> modules -> core, and cluster -> cli -> client -> api. */
const inside = (name) => `^modules/${name}/`;
/** The packages, the lowest first: each imports those below it, and none beside it. */
const layers = [
  ['core'],
  ['conat'],
  ['rpc', 'jetstream'],
  ['fleet', 'storage'],
  ['runner', 'proxy', 'backup', 'move'],
  ['api'],
  ['client'],
  ['cli'],
];
/** Folders that still are in circles. None is added: one that has left its circle leaves the list. */
const foldersInCircles = [
  '^modules/conat/src/(broker|edge|fabric)$',
  '^modules/proxy/src/(hub|origins)$',
  '^hub/src/(accounts|api|audit|hosts|operations|pages|projects|proxy)$',
  '^appliance/src/(access|hub)$',
];
module.exports = {
  forbidden: [
    { name: 'no-circular', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'no-circles-of-folders',
      severity: 'error',
      scope: 'folder',
      from: { pathNot: foldersInCircles },
      to: { circular: true },
    },
    {
      name: 'modules-know-no-app',
      severity: 'error',
      from: { path: '^modules/' },
      to: { path: '^(hub|appliance|cluster|harness|e2e)/' },
    },
    {
      name: 'core-stands-alone',
      severity: 'error',
      from: { path: inside('core') },
      to: { path: '^modules/(?!core/)' },
    },
    {
      name: 'module-imports-sibling-inside',
      comment:
        'A module imports core, conat, rpc and a sibling’s contract (or its testing kit, from tests).',
      severity: 'error',
      // The client calls the API; the command line puts the others together, as an app does.
      from: { path: '^modules/([^/]+)/src/', pathNot: '^modules/(client|cli)/' },
      to: {
        path: '^modules/([^/]+)/(src|dist)/',
        pathNot: [
          '^modules/$1/',
          '^modules/(core|conat|rpc)/',
          '^modules/[^/]+/(src|dist)/contract',
          '^modules/[^/]+/(src|dist)/testing/',
        ],
      },
    },
    ...layers.map((names, level) => ({
      name: `packages-import-downwards-${level}`,
      comment: 'So there are no circles between packages.',
      severity: 'error',
      from: { path: `^modules/(${names.join('|')})/src/` },
      to: {
        path: `^modules/(${layers.slice(level).flat().join('|')})/`,
        pathNot: '^modules/$1/',
      },
    })),
    {
      name: 'package-has-a-layer',
      severity: 'error',
      from: { path: '^modules/', pathNot: `^modules/(${layers.flat().join('|')})/` },
      to: {},
    },
    {
      name: 'contract-knows-no-other-product',
      comment: 'What crosses a process is in core and fleet; rpc says how it is written down.',
      severity: 'error',
      from: { path: '^modules/([^/]+)/src/(contract|.*[.]contract[.]ts$)' },
      to: {
        path: '^modules/',
        pathNot: ['^modules/$1/', '^modules/(core|rpc|fleet|api)/(src|dist)/contract'],
      },
    },
    {
      name: 'api-is-made-of-contracts',
      severity: 'error',
      from: { path: '^modules/api/src/' },
      to: { path: '^modules/', pathNot: [inside('api'), '^modules/[^/]+/(src|dist)/contract'] },
    },
    {
      name: 'client-knows-the-api-and-messaging',
      severity: 'error',
      from: { path: '^modules/client/src/' },
      to: { path: '^modules/', pathNot: '^modules/(client|api|core|conat|rpc)/' },
    },
    {
      name: 'api-and-client-run-in-browsers',
      severity: 'error',
      from: { path: '^modules/(api|client)/src/', pathNot: '/testing/' },
      to: { dependencyTypes: ['core'] },
    },
    {
      name: 'hub-knows-no-client-of-the-api',
      severity: 'error',
      from: { path: '^(hub|appliance)/src/' },
      to: { path: '^modules/(client|cli)/' },
    },
    {
      name: 'deep-import',
      severity: 'error',
      from: { path: '^(hub|appliance|cluster|harness|e2e)/' },
      to: { path: '^modules/[^/]+/(src|dist)/(?!index|contract|testing/index)' },
    },
    {
      name: 'harness-runs-apps-as-processes',
      severity: 'error',
      from: { path: '^(cluster|harness|e2e)/' },
      to: { path: '^(hub|appliance)/' },
    },
    {
      name: 'saga-is-pure',
      severity: 'error',
      from: { path: '^modules/move/src/saga/' },
      to: { path: '(@nestjs|typeorm|node_modules/pg|better-sqlite3)' },
    },
    {
      name: 'contracts-know-no-nest',
      severity: 'error',
      from: { path: '(/src/contract|^modules/(api|client|cli)/)' },
      to: { path: '@nestjs' },
    },
    {
      name: 'host-database-has-one-owner',
      comment:
        'Whoever writes to the host’s database does it through HostDatabase.write. The ingress reads.',
      severity: 'error',
      from: { path: '^appliance/src/', pathNot: '^appliance/src/(database/|ingress/)' },
      to: { path: 'node_modules/(typeorm|better-sqlite3|@types/better-sqlite3)/' },
    },
    { name: 'no-unresolved', severity: 'error', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '(/dist/|/node_modules/)' },
    tsPreCompilationDeps: true,
    combinedDependencies: true,
    tsConfig: { fileName: 'tsconfig.depcruise.json' },
    enhancedResolveOptions: {
      extensions: ['.ts', '.js'],
      conditionNames: ['types', 'import', 'default'],
      exportsFields: ['exports'],
    },
  },
};
