/** Where an engine is, and how the way to it is secured. */
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import { readFileSync } from "node:fs"

/**
 * The files of a TLS connection, each a path of a PEM file. They count where the URL asks for TLS (`mongodb://…?tls=true`, `amqps://`,
 * `rediss://`).
 */
export interface TlsFiles {
  /** Authorities that the server's certificate may come from, instead of those of the system. */
  readonly caFile?: string
  /** This process's own certificate, where the server asks for one. */
  readonly certFile?: string
  readonly keyFile?: string
  /** False takes any certificate: for tests only, and warned of. */
  readonly verify: boolean
}

export interface EngineAddress {
  /** With user and password where the engine wants them, hence never logged. */
  readonly url: Redacted.Redacted<string>
  readonly tls: TlsFiles
}

/** A file of a TLS setting that cannot be read. */
export class TlsFileUnreadable extends Schema.TaggedError<TlsFileUnreadable>()("TlsFileUnreadable", {
  file: Schema.String,
  reason: Schema.String
}) {
  override get message(): string {
    return `The TLS file ${this.file} cannot be read: ${this.reason}`
  }
}

/** What Node.js and the drivers take: the files as they are now. Throws {@link TlsFileUnreadable}. */
export const tlsOptions = ({ caFile, certFile, keyFile, verify }: TlsFiles) => ({
  ...(caFile === undefined ? {} : { ca: read(caFile) }),
  ...(certFile === undefined ? {} : { cert: read(certFile) }),
  ...(keyFile === undefined ? {} : { key: read(keyFile) }),
  rejectUnauthorized: verify
})

const read = (file: string): Buffer => {
  try {
    return readFileSync(file)
  } catch (cause) {
    throw new TlsFileUnreadable({ file, reason: (cause as Error).message })
  }
}

/** Whether the URL asks for TLS. */
export const asksTls = ({ url }: EngineAddress): boolean => {
  const text = Redacted.value(url)
  if (/^(amqps|rediss):/.test(text)) return true
  if (!/^mongodb(\+srv)?:/.test(text)) return false
  return (
    /[?&](?:tls|ssl)=true\b/.test(text) || (text.startsWith("mongodb+srv:") && !/[?&](?:tls|ssl)=false\b/.test(text))
  )
}

/** The address without user and password, for people: `redis://cache.example:6379/0`. */
export const shownUrl = (address: EngineAddress): string => {
  const url = Redacted.value(address.url)
  return url.replace(/^([a-z+]+:\/\/)[^@/]*@/, "$1").replace(/[?#].*$/, "")
}
