/** Builds the web app into `web/dist`: plain files that any server may hand out, under a policy that allows nothing inline. */
import { defineConfig } from "vite"

const SERVER = "http://localhost:8080"

export default defineConfig({
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    target: "es2024",
    outDir: "dist",
    emptyOutDir: true,
    // An inlined file would be a `data:` address, which the policy of the served app refuses.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false }
  },
  // For `vite web`, beside a running server.
  server: { proxy: { "/v1": { target: SERVER, ws: true } } }
})
