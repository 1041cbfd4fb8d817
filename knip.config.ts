import type { KnipConfig } from "knip"

const config: KnipConfig = {
  entry: [
    "src/main.ts",
    "src/client/index.ts",
    "{src,test}/**/*.worker.ts",
    "test/**/*.test.ts",
    "test/support/*.ts",
    "k8s/engines/mongodb/member.ts",
    "test/simulation/run.ts",
    "bench/*.ts",
    "bench/replay/scan.ts",
    "bench/durable/{chat,limit}{Edge,Read,Write}.ts",
    "bench/fanout/{bare,limit,receivers,socketIo}.ts",
    "bench/{deploy/clients,scale/people,slow/crowd}.ts",
    "scripts/*.ts",
    "web/src/main.tsx",
    "web/vite.config.ts"
  ],
  project: ["{src,test,bench,scripts,k8s}/**/*.ts", "web/src/**/*.{ts,tsx}"],
  ignoreExportsUsedInFile: true,
  ignoreDependencies: [
    // The name under which tsconfig.json sets up @effect/tsgo.
    "@effect/language-service",
    // What the tests of k8s/ have the compiler import.
    "@kubernetes-models/gateway-api",
    "@kubernetes-models/prometheus-operator",
    "kubernetes-models"
  ],
  ignoreBinaries: ["apt-get", "kubectl", "mount", "openssl", "promtool", "setpriv", "umount"]
}

export default config
