/**
 * The `darda` command. Imports nothing before it knows that this node can run the rest: an older one would end in a stack trace. The
 * compiler of schemas has to be there before the first schema is made.
 */
if (Number.parseInt(process.versions.node, 10) >= 24) {
  await import("effect/schema/SchemaJITCompiler/enable")
  const { runCli } = await import("./main/cli.ts")
  runCli(process.argv.slice(2))
} else {
  console.error(`darda: Node.js 24 or newer is needed, this is ${process.version}; run it as: npm start`)
  process.exitCode = 1
}

export {}
