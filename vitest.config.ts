import { defineConfig } from "vitest/config";

export default defineConfig({
  // `import ... from "troupe"` in examples and tests is the source beside them, not a build.
  ssr: { resolve: { conditions: ["troupe-source", "module", "node", "development|production"] } },
  test: {
    environment: "node",
    include: ["test/**/*.test.ts"],
    // Real servers and processes start in tests; a loaded machine is slow, not wrong.
    testTimeout: 30_000,
    hookTimeout: 30_000,
    pool: "forks",
    // Each worker drives servers of its own, and spends much of its time waiting for them; many more than cores make timing tests flaky.
    maxWorkers: 3,
  },
});
