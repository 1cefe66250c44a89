import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Has no time limit, and needs none: where the Temporal CLI must be built first, that takes minutes.
    globalSetup: ['test/support/global-setup.ts'],
    // Two files at a time: the databases and the Temporal server share the machine with them.
    maxWorkers: 2,
    // Each wait has a limit of its own, that names what was waited for; these are for what hangs, also on a slow machine.
    testTimeout: 240_000,
    hookTimeout: 240_000,
    teardownTimeout: 60_000,
    expect: { poll: { timeout: 20_000 } },
  },
});
