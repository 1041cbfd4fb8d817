// The engines of a cluster on this machine, for development: `npm run --silent services -- up`.
import { parseArgs } from "node:util"
import { binaries } from "./services/binaries.ts"
import { servicesFolder } from "./services/folders.ts"
import { down, type Running, status, up } from "./services/stack.ts"

const USAGE = `usage: npm run --silent services -- COMMAND [--json] [--members 1|3] [--test-commands]

  up       starts MongoDB, RabbitMQ and Redis, or what of them does not run, and prints where they are, for a shell:
           eval "$(npm run --silent services -- up)"
  status   prints the same of what runs; exit code 0 when all answer, 1 when some do not, 3 when none runs
  down     stops what \`up\` started; the data of MongoDB and RabbitMQ are kept, what is in Redis is not
  fetch    installs the servers that are missing, and starts nothing

  --json            prints {mongoUrl, amqpUrl, redisUrl, pids}
  --members 1|3     of MongoDB's replica set, when it is first made
  --test-commands   MongoDB with fail points, as tests need it: they use these engines then instead of their own`

const print = ({ mongoUrl, amqpUrl, redisUrl, pids }: Running, json: boolean): void => {
  if (json) console.log(JSON.stringify({ mongoUrl, amqpUrl, redisUrl, pids }))
  else console.log(`export MONGO_URL='${mongoUrl}'\nexport AMQP_URL='${amqpUrl}'\nexport REDIS_URL='${redisUrl}'`)
}

const printStatus = async (json: boolean): Promise<number> => {
  const found = await status(servicesFolder)
  if (found === undefined) {
    console.error(`No engine runs in ${servicesFolder}`)
    return 3
  }
  print(found, json)
  if (found.missing.length === 0) return 0
  console.error(`No answer from ${found.missing.join(", ")}: \`npm run services -- up\` starts what does not run`)
  return 1
}

const main = async (): Promise<number> => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: "boolean", default: false },
      members: { type: "string" },
      "test-commands": { type: "boolean" }
    }
  })
  const members = values.members === "1" ? 1 : values.members === "3" ? 3 : undefined
  if (positionals.length !== 1 || (values.members !== undefined && members === undefined)) throw new Error(USAGE)
  switch (positionals[0]) {
    case "up":
      print(await up(servicesFolder, { members, testCommands: values["test-commands"] }), values.json)
      return 0
    case "status":
      return await printStatus(values.json)
    case "down":
      await down(servicesFolder)
      return 0
    case "fetch":
      await binaries()
      return 0
    default:
      throw new Error(USAGE)
  }
}

// What was put aside on this machine is put back by what runs at the exit.
for (const [name, code] of [
  ["SIGINT", 130],
  ["SIGTERM", 143]
] as const) {
  process.once(name, () => process.exit(code))
}

try {
  process.exitCode = await main()
} catch (cause) {
  console.error((cause as Error).message)
  process.exitCode = 2
}
