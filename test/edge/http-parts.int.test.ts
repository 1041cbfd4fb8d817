import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs"
import type { Server } from "node:http"
import { type AddressInfo, connect } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect, Fiber, Scope } from "effect"
import type { HttpServerRequest } from "effect/http/HttpServerRequest"
import { TestClock } from "effect/testing"
import { createHttpServer } from "../../src/edge/http/server.ts"
import { UserLimits } from "../../src/edge/http/UserLimits.ts"
import { WebApp } from "../../src/edge/http/WebApp.ts"
import { Readiness } from "../../src/platform/Readiness.ts"

describe("the rates of users", () => {
  it("are each user's own", () => {
    const limits = new UserLimits(10, 2, 100)
    assert.deepStrictEqual([limits.take("ann", 0), limits.take("ann", 0), limits.take("bob", 0)], [0, 0, 0])
    assert.strictEqual(limits.take("ann", 0), 100)
    assert.strictEqual(limits.take("bob", 0), 0)
    assert.strictEqual(limits.take("ann", 100), 0)
  })
  it("are kept for so many users, those who were away longest first to go", () => {
    const limits = new UserLimits(1, 1, 3)
    for (const user of ["ann", "bob", "cy"]) limits.take(user, 0)
    assert.isAbove(limits.take("ann", 0), 0)
    limits.take("dee", 0)
    assert.strictEqual(limits.size, 3)
    assert.isAbove(limits.take("ann", 0), 0)
    assert.strictEqual(limits.take("bob", 0), 0)
  })
})

describe("the web app's folder", () => {
  const folder = mkdtempSync(join(tmpdir(), "darda-web-"))
  afterAll(() => rmSync(folder, { recursive: true }))
  const get = (web: WebApp, path: string, headers: Record<string, string> = {}) => {
    const answer = web.respond({ headers } as HttpServerRequest, path)
    return answer === undefined
      ? undefined
      : {
          status: answer.status,
          type: answer.headers["content-type"],
          cache: answer.headers["cache-control"],
          etag: answer.headers["etag"],
          text: answer.body._tag === "Uint8Array" ? new TextDecoder().decode(answer.body.body) : ""
        }
  }
  const build = (index: string, at: number) => {
    mkdirSync(join(folder, "assets"), { recursive: true })
    writeFileSync(join(folder, "assets", "index-AbCd1234.js"), "code")
    writeFileSync(join(folder, "secret.unknown"), "data")
    writeFileSync(join(folder, "index.html"), index)
    utimesSync(join(folder, "index.html"), at, at)
  }

  it("says how to build it, and serves what was built meanwhile", () => {
    let now = 0
    const web = new WebApp(folder, () => now)
    const missing = get(web, "/")
    assert.strictEqual(missing?.status, 503)
    assert.include(missing?.text ?? "", "npm run build:web")
    assert.isUndefined(get(web, "/assets/index-AbCd1234.js"))

    build("<p>one", 1_000)
    now += 1_000
    const index = get(web, "/")
    assert.deepInclude(index, { status: 200, type: "text/html; charset=utf-8", cache: "no-cache", text: "<p>one" })
    assert.deepInclude(get(web, "/assets/index-AbCd1234.js"), {
      cache: "public, max-age=31536000, immutable",
      text: "code"
    })
    assert.deepInclude(get(web, "/secret.unknown"), { type: "application/octet-stream", cache: "no-cache" })
    assert.strictEqual(get(web, "/", { "if-none-match": index!.etag! })?.status, 304)

    build("<p>two", 2_000)
    assert.strictEqual(get(web, "/")?.text, "<p>one")
    now += 1_000
    assert.strictEqual(get(web, "/", { "if-none-match": index!.etag! })?.text, "<p>two")

    rmSync(join(folder, "index.html"))
    now += 1_000
    assert.strictEqual(get(web, "/")?.text, "<p>two")
  })
  it.each([
    "/..",
    "/../etc/passwd",
    "/assets",
    "/assets/",
    "//index.html",
    "/index.html/",
    "/%69ndex.html",
    "/constructor"
  ])("has no %s", (path) => {
    build("<p>one", 1_000)
    assert.isUndefined(get(new WebApp(folder), path))
  })
})

describe("a server that nobody listens to yet", () => {
  let server: Server
  let port: number
  beforeAll(async () => {
    server = createHttpServer()
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
    ;({ port } = server.address() as AddressInfo)
  })
  afterAll(() => void server.close())
  /** Sends bytes and reads until the server closes. */
  const talk = (bytes: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connect(port, "127.0.0.1", () => socket.write(bytes))
      let text = ""
      socket.setEncoding("utf8").on("data", (data: string) => (text += data))
      socket.once("error", reject).once("close", () => resolve(text))
    })

  it("says that it is starting", async () => {
    const answer = await fetch(`http://127.0.0.1:${port}/v1/conversations`)
    assert.strictEqual(answer.status, 503)
    assert.strictEqual(answer.headers.get("retry-after"), "2")
    assert.deepInclude((await answer.json()) as object, { code: "unavailable", status: 503, retryAfterMs: 2_000 })
  })
  const broken: ReadonlyArray<readonly [what: string, bytes: string, status: number, code: string]> = [
    ["no HTTP", "hello\r\n\r\n", 400, "bad_request"],
    ["TLS", "\u0016\u0003\u0001\u0000", 400, "bad_request"],
    ["a header without a colon", "GET / HTTP/1.1\r\nHost: x\r\nbroken\r\n\r\n", 400, "bad_request"],
    ["two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "bad_request"],
    [
      "a length and chunks",
      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
      400,
      "bad_request"
    ],
    ["too long a head", `GET / HTTP/1.1\r\nHost: x\r\nx: ${"y".repeat(17_000)}\r\n\r\n`, 431, "too_large"],
    ["too long a path", `GET /${"y".repeat(17_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, 431, "too_large"]
  ]
  it.each(broken)("answers %s with a problem, and closes", async (_what, bytes, status, code) => {
    const text = await talk(bytes)
    const [head = "", body = ""] = text.split("\r\n\r\n")
    assert.match(head, new RegExp(`^HTTP/1.1 ${status} `))
    assert.include(head, "application/problem+json")
    assert.deepInclude(JSON.parse(body) as object, { status, code, type: "about:blank" })
  })
  it("is not patient with heads that never end", () => {
    assert.isAtMost(server.headersTimeout, 10_000)
    assert.isAtMost(server.requestTimeout, 30_000)
    assert.isAbove(server.keepAliveTimeout, 60_000)
  })
})

describe("readiness", () => {
  it.effect("is the sum of its checks, by name, as long as they are registered", () =>
    Effect.gen(function* () {
      const readiness = yield* Readiness
      assert.deepStrictEqual(yield* readiness.reasons, [])
      const scope = yield* Scope.make()
      yield* Effect.provideService(readiness.register("log", Effect.succeed("the disk is full")), Scope.Scope, scope)
      yield* readiness.register("models", Effect.undefined)
      yield* readiness.register("bug", Effect.die("oops"))
      assert.deepStrictEqual(yield* readiness.reasons, [
        { name: "log", reason: "the disk is full" },
        { name: "bug", reason: "the check failed: oops" }
      ])
      yield* Scope.close(scope, yield* Effect.exit(Effect.void))
      assert.deepStrictEqual(
        (yield* readiness.reasons).map(({ name }) => name),
        ["bug"]
      )
    }).pipe(Effect.provide(Readiness.layer))
  )
  it.effect("does not wait for an engine that does not answer", () =>
    Effect.gen(function* () {
      const readiness = yield* Readiness
      yield* readiness.register("log", Effect.never)
      const asked = yield* Effect.forkChild(readiness.reasons)
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(yield* Fiber.join(asked), [{ name: "log", reason: "no answer in 2 seconds" }])
    }).pipe(Effect.provide(Readiness.layer))
  )
  it.effect("ends with the drain, for good", () =>
    Effect.gen(function* () {
      const readiness = yield* Readiness
      yield* readiness.drain
      assert.deepStrictEqual(
        (yield* readiness.reasons).map(({ name }) => name),
        ["drain"]
      )
    }).pipe(Effect.provide(Readiness.layer))
  )
})
