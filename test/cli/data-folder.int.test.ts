import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Redacted, Scope } from "effect"
import { spawn } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import {
  dataPaths,
  DataFolderLocked,
  keptClusterSecret,
  lockHolder,
  openDataFolder
} from "../../src/platform/DataFolder.ts"
import { temporaryFolder } from "./darda.ts"

const holder = new URL("../support/hold-folder.ts", import.meta.url).pathname

describe("the data folder", () => {
  it.effect("is made for this user alone", () =>
    Effect.gen(function* () {
      const folder = path.join(temporaryFolder(), "a", "b")
      const paths = yield* openDataFolder(folder)
      assert.strictEqual(fs.statSync(paths.root).mode & 0o777, 0o700)
      assert.deepInclude(lockHolder(paths), { pid: process.pid })
    })
  )

  it.effect("belongs to one at a time, and to the next when that one is done", () =>
    Effect.gen(function* () {
      const folder = temporaryFolder()
      const scope = yield* Scope.make()
      yield* Scope.provide(openDataFolder(folder), scope)
      const error = yield* Effect.flip(openDataFolder(folder))
      assert.instanceOf(error, DataFolderLocked)
      assert.include(error.message, `process ${process.pid} since 20`)
      yield* Scope.close(scope, Exit.void)
      yield* openDataFolder(folder)
    })
  )

  it.live("is free again when the process that held it was killed", () =>
    Effect.gen(function* () {
      const folder = temporaryFolder()
      const child = spawn(process.execPath, [holder, folder], { stdio: ["ignore", "pipe", "inherit"] })
      yield* Effect.addFinalizer(() => Effect.sync(() => child.kill("SIGKILL")))
      yield* Effect.promise(() => new Promise((resolve) => child.stdout.once("data", resolve)))
      const error = yield* Effect.flip(openDataFolder(folder))
      assert.include(error.message, `process ${child.pid} since`)
      yield* Effect.promise(
        () =>
          new Promise((resolve) => {
            child.once("exit", resolve)
            child.kill("SIGKILL")
          })
      )
      yield* openDataFolder(folder)
    })
  )

  it.effect("that is a file, or within one, is refused in one sentence", () =>
    Effect.gen(function* () {
      const file = path.join(temporaryFolder(), "file")
      fs.writeFileSync(file, "not a folder")
      for (const folder of [file, path.join(file, "data")]) {
        const error = yield* Effect.flip(openDataFolder(folder))
        assert.strictEqual(
          error.message,
          `The data folder ${folder} cannot be used: a file is where a folder should be`
        )
      }
      assert.strictEqual(fs.readFileSync(file, "utf8"), "not a folder")
    })
  )

  it.effect("keeps the secret it made, for its owner alone", () =>
    Effect.gen(function* () {
      const paths = dataPaths(temporaryFolder())
      const made = Redacted.value(yield* keptClusterSecret(paths))
      assert.isAtLeast(made.length, 32)
      assert.strictEqual(Redacted.value(yield* keptClusterSecret(paths)), made)
      assert.strictEqual(fs.statSync(paths.clusterSecret).mode & 0o777, 0o600)
    })
  )
})
