/** The commands of `darda`, each of which loads its code only when it runs. */
import * as NodeServices from "@effect/platform-node/NodeServices"
import * as Argument from "effect/cli/Argument"
import * as CliConfig from "effect/cli/CliConfig"
import * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { readFileSync } from "node:fs"
import { decodeSettings, describeProblem, Settings, settingsHelp } from "../platform/Settings.ts"
import { parseRoles, ROLES } from "./roles.ts"
import { Failures, oneLine, runProcess } from "./run.ts"

/** The settings of the environment, or every problem with them. */
const settings = Layer.effect(
  Settings,
  Effect.suspend(() => {
    const decoded = decodeSettings(process.env)
    return decoded._tag === "Settings"
      ? Effect.succeed(decoded.values)
      : Effect.fail(new Failures(decoded.problems.map(describeProblem)))
  })
)

const serveAs = (list: string) =>
  Effect.gen(function* () {
    const roles = parseRoles(list)
    if (typeof roles === "string") return yield* Effect.fail(new Failures([roles]))
    const { serve } = yield* Effect.promise(() => import("./serve.ts"))
    return yield* serve(roles)
  }).pipe(Effect.provide(settings))

const rolesFlag = Flag.String("roles").pipe(
  Flag.withDefault(ROLES.join(",")),
  Flag.withDescription(`What this process does: one or more of ${ROLES.join(", ")}, separated by commas (all)`)
)

const serve = Command.make("serve", { roles: rolesFlag }, ({ roles }) => serveAs(roles)).pipe(
  Command.withDescription("Runs the server. Its settings come from the environment:"),
  Command.withShortDescription("Runs the server (the default)")
)

const replay = Command.make("replay", {}, () =>
  Effect.promise(() => import("./maintenance.ts")).pipe(
    Effect.flatMap(({ replay }) => replay),
    Effect.provide(settings)
  )
).pipe(Command.withDescription("Builds the read models anew from the log, while the server runs or without it"))

const verify = Command.make("verify", {}, () =>
  Effect.promise(() => import("./maintenance.ts")).pipe(
    Effect.flatMap(({ verify }) => verify),
    Effect.provide(settings)
  )
).pipe(Command.withDescription("Computes the read models anew and says where the stored ones differ"))

const outbox = Command.make("outbox").pipe(
  Command.withDescription("What is committed and not told yet to nodes and read models"),
  Command.withSubcommands([
    Command.make("status", {}, () =>
      Effect.promise(() => import("./maintenance.ts")).pipe(
        Effect.flatMap(({ outbox }) => outbox),
        Effect.provide(settings)
      )
    ).pipe(Command.withDescription("Commits and events of each partition, and how old the oldest is"))
  ])
)

const deadLetters = Effect.promise(() => import("./deadLetters.ts"))
const letterIds = Argument.String("id").pipe(
  Argument.variadic(),
  Argument.withDescription("Letters, by the ids that list shows")
)
const allLetters = Flag.Boolean("all").pipe(
  Flag.withDefault(false),
  Flag.withDescription("All that list shows, instead of ids")
)

const letters = Command.make("dead-letters").pipe(
  Command.withDescription("Messages in RabbitMQ that could not be read and were put aside"),
  Command.withSubcommands([
    Command.make("list", {}, () =>
      deadLetters.pipe(
        Effect.flatMap(({ list }) => list),
        Effect.provide(settings)
      )
    ).pipe(Command.withDescription("The first 1,000: when, from which queue, how large, why, and how they begin")),
    Command.make("show", { id: Argument.String("id") }, ({ id }) =>
      deadLetters.pipe(
        Effect.flatMap(({ show }) => show(id)),
        Effect.provide(settings)
      )
    ).pipe(Command.withDescription("One letter as a whole")),
    Command.make("retry", { ids: letterIds, all: allLetters }, ({ all, ids }) =>
      deadLetters.pipe(
        Effect.flatMap(({ retry }) => retry(ids, all)),
        Effect.provide(settings)
      )
    ).pipe(
      Command.withDescription("Sends letters back to the queues that they came from, after an upgrade for example")
    ),
    Command.make("drop", { ids: letterIds, all: allLetters }, ({ all, ids }) =>
      deadLetters.pipe(
        Effect.flatMap(({ drop }) => drop(ids, all)),
        Effect.provide(settings)
      )
    ).pipe(Command.withDescription("Throws letters away"))
  ])
)

const doctor = Command.make("doctor", {}, () =>
  Effect.promise(() => import("./doctor.ts")).pipe(Effect.flatMap(({ doctor }) => doctor(process.env)))
).pipe(
  Command.withDescription("Checks settings, data folder, database files, disk, clock and limits, and says what to do")
)

const positive = (name: string, fallback: number, doc: string) =>
  Flag.Int(name).pipe(
    Flag.filter(
      (value) => value >= 1,
      (value) => `must be at least 1, not ${value}`
    ),
    Flag.withDefault(fallback),
    Flag.withDescription(`${doc} (${fallback})`)
  )

const load = Command.make(
  "load",
  {
    url: Flag.String("url").pipe(
      Flag.withDefault("http://localhost:8080"),
      Flag.withDescription("The server (http://localhost:8080)")
    ),
    users: positive("users", 20, "Users, each with one connection"),
    conversations: positive("conversations", 20, "Conversations they write to"),
    groupSize: positive("group-size", 2, "Members of a conversation; 2 is a direct one"),
    rate: Flag.Int("rate").pipe(
      Flag.optional,
      Flag.withDescription("Messages a second; latency is measured from when each should have gone out")
    ),
    max: Flag.Boolean("max").pipe(
      Flag.withDefault(false),
      Flag.withDescription("As many messages as the server takes (the default without --rate)")
    ),
    window: positive("window", 128, "Sends of a connection that are not persisted yet, at most"),
    seconds: positive("seconds", 10, "How long to send"),
    settle: positive("settle", 15, "Seconds that what is still under way at the end is waited for"),
    body: positive("body", 64, "Characters of a message's body"),
    tokenFile: Flag.String("token-file").pipe(
      Flag.optional,
      Flag.withDescription("Tokens, one a line, one for each user; without it AUTH=dev is asked for them")
    ),
    json: Flag.Boolean("json").pipe(Flag.withDefault(false), Flag.withDescription("Print the result as JSON alone"))
  },
  (options) => Effect.promise(() => import("./load.ts")).pipe(Effect.flatMap(({ load }) => load(options)))
).pipe(
  Command.withDescription("Sends messages to a server and prints throughput and latency"),
  Command.withExamples([
    { command: "darda load --rate 500 --seconds 30", description: "Latency at 500 messages a second" }
  ])
)

const root = Command.make("darda", { roles: rolesFlag }, ({ roles }) => serveAs(roles)).pipe(
  Command.withDescription("A chat server: event-sourced from end to end. Without a command it serves."),
  Command.withSubcommands([serve, replay, verify, outbox, letters, doctor, load])
)

const presenter: CliOutput.Presenter = {
  present: Effect.fnUntraced(function* (event) {
    if (event._tag === "InvalidInvocation") {
      const help = `${event.commandPath.join(" ")} --help`
      for (const error of event.errors) yield* Console.error(`darda: ${oneLine(error.message)} (see ${help})`)
      return
    }
    yield* CliOutput.defaultPresenter.present(event)
    if (event._tag === "Help" && event.commandPath.at(-1) === "serve") yield* Console.log(settingsHelp())
  })
}

const version = (): string => {
  const file = new URL("../../package.json", import.meta.url)
  return (JSON.parse(readFileSync(file, "utf8")) as { readonly version: string }).version
}

/** Runs the command that the arguments name, as this process. */
export const runCli = (args: ReadonlyArray<string>): void =>
  runProcess(
    Command.runWith(root, { version: version() })(args).pipe(
      Effect.provide([
        NodeServices.layer,
        CliConfig.layer({ builtIns: [GlobalFlag.Help, GlobalFlag.Version] }),
        CliOutput.layerPresenter(presenter)
      ])
    ),
    // What was wrong with the arguments has been said by the presenter.
    CliError.isCliError
  )
