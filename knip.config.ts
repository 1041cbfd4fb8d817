import type { KnipConfig } from "knip"

const config: KnipConfig = {
  entry: [
    "src/main.ts",
    "src/client/index.ts",
    "{src,test}/**/*.worker.ts",
    "test/**/*.test.ts",
    "test/support/*.ts",
    "test/simulation/run.ts",
    "bench/*.ts",
    "bench/durable/{chat,limit}{Edge,Read,Write}.ts",
    "scripts/*.ts",
    "web/src/main.tsx",
    "web/vite.config.ts"
  ],
  project: ["{src,test,bench,scripts}/**/*.ts", "web/src/**/*.{ts,tsx}"],
  ignoreExportsUsedInFile: true,
  ignoreDependencies: [
    // The name under which tsconfig.json sets up @effect/tsgo.
    "@effect/language-service"
  ],
  ignoreBinaries: ["apt-get", "mount", "setpriv", "umount"]
}

export default config
