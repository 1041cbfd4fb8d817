/** Certificates of a test's own authority, made by the program `openssl`. */
import { execFileSync } from "node:child_process"
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { canInstall, install } from "../../scripts/services/debian.ts"
import { inPath } from "../../scripts/services/run.ts"

/** The files of a certificate, each in PEM. */
export interface Pem {
  readonly certFile: string
  readonly keyFile: string
  /** Both in one file, as mongod wants them. */
  readonly bothFile: string
}

export interface Authority extends Pem {
  /** A certificate for this machine's loopback addresses, good for both ends of a connection. */
  readonly certificate: (name: string) => Pem
}

/** Without extensions of whatever configuration the machine has. */
const CONFIG = "[req]\ndistinguished_name = name\n[name]\n"

/** Makes an authority in this folder, some milliseconds. Gets `openssl` where it is missing and may be installed. */
export const makeAuthority = async (folder: string, name: string): Promise<Authority> => {
  if (inPath("openssl") === undefined) {
    if (!canInstall()) throw new Error("Install openssl (on Debian: apt-get install openssl), then try again")
    await install(["openssl"])
  }
  mkdirSync(folder, { recursive: true })
  const config = join(folder, "openssl.conf")
  writeFileSync(config, CONFIG)
  const make = (file: string, more: ReadonlyArray<string>): Pem => {
    const [certFile, keyFile, bothFile] = ["pem", "key", "both.pem"].map((end) => join(folder, `${file}.${end}`)) as [
      string,
      string,
      string
    ]
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", keyFile]
    const args = ["req", "-x509", "-config", config, ...key, "-out", certFile, "-days", "2", ...more]
    execFileSync("openssl", args, { stdio: "pipe" })
    writeFileSync(bothFile, readFileSync(certFile, "utf8") + readFileSync(keyFile, "utf8"), { mode: 0o600 })
    return { certFile, keyFile, bothFile }
  }
  const authority = make(name, [
    ...["-subj", `/CN=${name}`],
    ...["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
  ])
  return {
    ...authority,
    certificate: (leaf) =>
      make(leaf, [
        ...["-CA", authority.certFile, "-CAkey", authority.keyFile, "-subj", `/CN=${leaf}`],
        ...["-addext", "basicConstraints=critical,CA:FALSE"],
        ...["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
      ])
  }
}

export const removeAuthority = (folder: string): void => rmSync(folder, { recursive: true, force: true })
