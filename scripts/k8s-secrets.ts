// The Secrets of the overlay production, with new random passwords: `node scripts/k8s-secrets.ts | kubectl apply -f -`, once. A second
// run makes others, which engines that have their data already do not know.
import { randomBytes } from "node:crypto"

const random = (): string => randomBytes(32).toString("base64url")

const secret = (name: string, stringData: Record<string, string>) => ({
  apiVersion: "v1",
  kind: "Secret",
  metadata: { name, namespace: "darda", labels: { "app.kubernetes.io/part-of": "darda" } },
  stringData
})

const hosts = [0, 1, 2].map((ordinal) => `mongodb-${ordinal}.mongodb:27017`).join(",")
const [mongo, rabbit, redis] = [random(), random(), random()]
const items = [
  secret("darda", {
    CLUSTER_SECRET: random(),
    MONGO_URL: `mongodb://darda:${mongo}@${hosts}/darda?replicaSet=rs0`,
    AMQP_URL: `amqp://darda:${rabbit}@rabbitmq:5672`,
    REDIS_URL: `redis://:${redis}@redis:6379/0`
  }),
  // A key file holds letters and digits.
  secret("mongodb", { ADMIN_PASSWORD: random(), DARDA_PASSWORD: mongo, keyfile: randomBytes(192).toString("base64") }),
  secret("rabbitmq", { RABBITMQ_DEFAULT_USER: "darda", RABBITMQ_DEFAULT_PASS: rabbit, "erlang-cookie": random() }),
  secret("redis", { REDIS_PASSWORD: redis, "auth.conf": `requirepass ${redis}\nmasterauth ${redis}\n` })
]
console.log(JSON.stringify({ apiVersion: "v1", kind: "List", items }, null, 2))
