/** What the doctor checks of the database files: that they are whole, read-only. */
import * as fs from "node:fs"
import { DatabaseSync } from "node:sqlite"
import { type DataPaths, explainFileError, mebibytes } from "../../platform/DataFolder.ts"
import type { SettingsValues } from "../../platform/Settings.ts"
import { checkHeader, SqliteUnusable } from "../../platform/worker/sqlite.ts"
import { FORMAT, metaOf } from "../../write-side/EventLogSqliteFile.ts"
import { bad, type Finding, good, note } from "./finding.ts"

/** Findings about both files. A log that is not there yet is as it should be before the first start. */
export const checkDatabases = (paths: DataPaths, { partitions }: SettingsValues): ReadonlyArray<Finding> => [
  checkFile(
    "event log",
    paths.log,
    (problem) => bad(`${problem}: restore it from a backup; nothing else has what it held`),
    (database) => checkLog(database, partitions)
  ),
  checkFile("read models", paths.readModels, (problem) =>
    note(`${problem}: the next start builds it anew from the log`)
  )
]

/** What else a start asks of a log that is whole. */
const checkLog = (database: DatabaseSync, partitions: number): Finding | undefined => {
  const format = Number(database.prepare("PRAGMA user_version").get()?.["user_version"])
  if (format !== FORMAT) {
    return bad(`event log: has format ${format}, this Darda reads format ${FORMAT}: start the version that wrote it`)
  }
  const found = Number(metaOf(database, "partitions"))
  if (found === partitions) return undefined
  return bad(`event log: has ${found} partitions, PARTITIONS is ${partitions}: set PARTITIONS=${found}`)
}

const checkFile = (
  name: string,
  file: string,
  damaged: (problem: string) => Finding,
  more: (database: DatabaseSync) => Finding | undefined = () => undefined
): Finding => {
  if (!fs.existsSync(file)) return good(`${name}: not there yet, made when needed`)
  let database: DatabaseSync | undefined
  try {
    const bytes = fs.statSync(file).size
    checkHeader({ file, readOnly: true })
    database = new DatabaseSync(file, { readOnly: true, timeout: 2_000 })
    const rows = database.prepare("PRAGMA quick_check(3)").all()
    const found = rows.map((row) => String(Object.values(row)[0]))
    if (found.length !== 1 || found[0] !== "ok") return damaged(`${name} ${file} is damaged (${found.join("; ")})`)
    return more(database) ?? good(`${name}: whole, ${mebibytes(bytes)}`)
  } catch (cause) {
    const sqlite = cause instanceof SqliteUnusable || (cause as { errcode?: unknown }).errcode !== undefined
    if (sqlite) return damaged(`${name} ${file} cannot be read (${(cause as Error).message})`)
    return bad(`${name} ${file}: ${explainFileError(cause)}`)
  } finally {
    database?.close()
  }
}
