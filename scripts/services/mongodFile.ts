/** A mongod of version 8, wherever it can be had. */
import { existsSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"

export const mongodFile = async (): Promise<string> => {
  const kept = join(homedir(), ".cache/darda/mongod/mongod-8.2.6")
  return process.env["MONGOD"] ?? (existsSync(kept) ? kept : "mongod")
}
