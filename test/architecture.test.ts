/** The rules about the folders, held as data: who may import whom, and what is written in one place only. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

interface Room {
  /** Our own rooms, or single files of them. */
  readonly ours: readonly string[];
  /** Packages, with everything below them; `node:` stands for all built-in modules, `*` for any package. */
  readonly packages: readonly string[];
}

const rooms: Readonly<Record<string, Room>> = {
  routing: { ours: [], packages: ['@bufbuild/cel', '@bufbuild/re2', 'eld', 'typebox'] },
  workflows: { ours: ['routing'], packages: ['@temporalio/workflow'] },
  store: { ours: ['routing', 'platform'], packages: ['pg', 'node-pg-migrate', 'node:'] },
  activities: {
    ours: ['routing', 'workflows/contract.ts', 'store', 'platform'],
    packages: ['pg', '@temporalio/activity', 'node:'],
  },
  api: {
    ours: ['routing', 'store', 'platform'],
    packages: ['pg', 'fastify', '@fastify', 'typebox', 'node:'],
  },
  worker: {
    ours: ['routing', 'workflows', 'store', 'activities', 'platform', 'ops'],
    packages: ['pg', '@temporalio', 'node:'],
  },
  platform: { ours: [], packages: ['*'] },
  ops: { ours: ['store', 'platform'], packages: ['*'] },
  test: { ours: ['routing', 'workflows', 'store', 'activities', 'api', 'worker', 'platform', 'ops'], packages: ['*'] },
};

/** Where a tool insists on a default export. */
const defaultExports = new Set(['vitest.config.ts', 'test/support/global-setup.ts']);

const root = fileURLToPath(new URL('..', import.meta.url));
const sources = Object.keys(rooms).flatMap(listSources);

test('every room imports only what it may', () => {
  const breaches = sources.flatMap((source) => {
    const room = roomOf(source.path);
    return source.imports
      .filter(({ specifier }) => !mayImport(room, source.path, specifier))
      .map(({ specifier }) => `${source.path} imports ${specifier}`);
  });
  expect(breaches).toEqual([]);
});

test('the actors pull in no rule engine: what they import of routing reaches no package', () => {
  const reached = new Set<string>();
  const visit = (path: string): void => {
    if (reached.has(path)) return;
    reached.add(path);
    for (const { specifier } of sourceAt(path).imports) if (specifier.startsWith('.')) visit(resolve(path, specifier));
  };
  for (const { path } of sources) if (roomOf(path) === 'workflows') visit(path);
  const packages = [...reached].flatMap((path) =>
    sourceAt(path)
      .imports.filter(({ specifier }) => !specifier.startsWith('.'))
      .map(({ specifier }) => `${path} imports ${specifier}`),
  );
  expect(packages.filter((line) => !line.endsWith(' imports @temporalio/workflow'))).toEqual([]);
});

test('decisions are pure: routing reads no clock, draws no random number and reaches nothing outside', () => {
  const impure = /\b(Date\.now|new Date\(\)|Math\.random|performance\.|crypto\.|fetch\(|setTimeout|setInterval)/;
  expect(linesOf('routing', (line) => impure.test(line))).toEqual([]);
});

test('the environment is read in one file', () => {
  const readers = Object.keys(rooms)
    .filter((room) => room !== 'test')
    .flatMap((room) => linesOf(room, (line) => line.includes('process.env')));
  // The bootstrap runs before any dependency is installed, and asks npm where npm is.
  const allowed = /^(platform\/config\.ts|ops\/bootstrap\.mjs):/;
  expect(readers.filter((line) => !allowed.test(line))).toEqual([]);
});

test('processes log, they do not print; only the programs of ops write to the terminal', () => {
  const printing = ['routing', 'workflows', 'store', 'activities', 'api', 'worker', 'platform'].flatMap((room) =>
    linesOf(room, (line) => /\bconsole\./.test(line)),
  );
  expect(printing).toEqual([]);
});

test('exports have names', () => {
  const breaches = sources
    .filter(({ path, code }) => /^\s*export\s+default\b|\bas\s+default\b/m.test(code) && !defaultExports.has(path))
    .map(({ path }) => path);
  expect(breaches).toEqual([]);
});

test('nothing is named utils, common or helpers', () => {
  const drawers = readdirSync(root, { recursive: true, encoding: 'utf8', withFileTypes: true })
    .filter((entry) => !/(^|\/)(node_modules|\.git|dist|\.switchyard)(\/|$)/.test(relative(root, entry.parentPath)))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .filter((path) => !/^(node_modules|\.git|dist|\.switchyard)(\/|$)/.test(path))
    .filter((path) => /(^|[/.-])(utils?|common|helpers?)([/.-]|$)/i.test(path));
  expect(drawers).toEqual([]);
});

test('the parser of imports finds every form', () => {
  const code = `
    import { a } from './a.ts';
    import type { B } from './b.ts';
    import './c.ts';
    export { d } from './d.ts';
    export * from './e.ts';
    import {
      f,
    } from './f.ts';
    const g = await import('./g.ts');
    // import { h } from './h.ts';
    /* export { i } from './i.ts'; */
    import j, { type K } from "./j.ts";`;
  const found = importsOf(withoutComments(code)).map(({ specifier }) => specifier);
  expect(found.toSorted()).toEqual(['a', 'b', 'c', 'd', 'e', 'f', 'g', 'j'].map((name) => `./${name}.ts`));
});

test('the table itself refuses what it should', () => {
  expect(mayImport('routing', 'routing/route.ts', '../store/teams.ts')).toBe(false);
  expect(mayImport('activities', 'activities/x.ts', '../workflows/contract.ts')).toBe(true);
  expect(mayImport('activities', 'activities/x.ts', '../workflows/contact-workflow.ts')).toBe(false);
  expect(mayImport('worker', 'worker/main.ts', '../api/app.ts')).toBe(false);
  expect(mayImport('api', 'api/routes/teams.ts', '../../store/teams.ts')).toBe(true);
  expect(mayImport('store', 'store/teams.ts', 'fastify')).toBe(false);
  expect(mayImport('workflows', 'workflows/index.ts', 'node:crypto')).toBe(false);
});

interface Source {
  readonly path: string;
  /** Without comments. */
  readonly code: string;
  readonly imports: readonly { readonly specifier: string }[];
}

function listSources(room: string): Source[] {
  return readdirSync(join(root, room), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(ts|mjs)$/.test(name))
    .map((name) => {
      const path = `${room}/${name}`;
      const code = withoutComments(readFileSync(join(root, path), 'utf8'));
      return { path, code, imports: importsOf(code) };
    });
}

function sourceAt(path: string): Source {
  const source = sources.find((candidate) => candidate.path === path);
  if (source === undefined) throw new Error(`${path} is imported but not there`);
  return source;
}

/** Whole lines and blocks only, so that `//` inside a string stays. */
function withoutComments(code: string): string {
  return code.replace(/^\s*\/\*[\s\S]*?\*\//gm, '').replace(/^\s*\/\/.*$/gm, '');
}

function importsOf(code: string): { specifier: string }[] {
  const statement = /^\s*(?:import|export)\b(?:[^'"`;=()]*?\bfrom)?\s*['"]([^'"]+)['"]/gm;
  const call = /\bimport\(\s*['"]([^'"]+)['"]/g;
  return [...code.matchAll(statement), ...code.matchAll(call)].map((match) => ({ specifier: match[1]! }));
}

const roomOf = (path: string): string => path.slice(0, path.indexOf('/'));

const resolve = (from: string, specifier: string): string => join(dirname(from), specifier);

function mayImport(room: string, from: string, specifier: string): boolean {
  const { ours, packages } = rooms[room]!;
  if (!specifier.startsWith('.')) {
    return packages.some(
      (name) =>
        name === '*' ||
        specifier === name ||
        specifier.startsWith(`${name}/`) ||
        (name === 'node:' && specifier.startsWith(name)),
    );
  }
  const target = resolve(from, specifier);
  return target.startsWith(`${room}/`) || ours.some((name) => target === name || target.startsWith(`${name}/`));
}

function linesOf(room: string, breaks: (line: string) => boolean): string[] {
  return sources
    .filter(({ path }) => roomOf(path) === room)
    .flatMap(({ path, code }) =>
      code
        .split('\n')
        .filter(breaks)
        .map((line) => `${path}: ${line.trim()}`),
    );
}
