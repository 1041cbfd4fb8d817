/** The page at /docs in a browser: it works without any other host. */
import { afterAll, assert, beforeAll, it } from "@effect/vitest"
import type { Browser } from "playwright-core"
import { launchBrowser } from "../support/browser.ts"
import { type RunningServer, startServer } from "../support/server.ts"

let server: RunningServer
let browser: Browser
beforeAll(async () => {
  ;[server, browser] = await Promise.all([startServer(), launchBrowser()])
})
afterAll(() => Promise.all([server.dispose(), browser.close()]))

it("describes the routes, may try them, and asks only its own server", async () => {
  const page = await browser.newPage()
  const asked: Array<string> = []
  const errors: Array<string> = []
  page.on("request", (request) => asked.push(request.url()))
  page.on("pageerror", (error) => errors.push(error.message))
  page.on("console", (message) => {
    if (message.type() === "error") errors.push(message.text())
  })
  await page.goto(`${server.url}/docs`)
  await page.getByText("Send a message").first().waitFor()
  const status = await page.evaluate(async () => (await fetch("/healthz")).status)
  assert.strictEqual(status, 200)
  for (const url of asked) assert.isTrue(/^(?:data|blob):/.test(url) || url.startsWith(`${server.url}/`), url)
  assert.deepStrictEqual(errors, [])
})
