/** The manifests of k8s/ as they would be applied: types, policies, and for each policy a manifest that it refuses. */
import { readdirSync, readFileSync } from "node:fs"
import { describe, expect, test } from "vitest"
import { parse } from "yaml"
import { decodeSettings } from "../../src/platform/Settings.ts"
import { addressesOf, atHost, environmentOf, mayReach, named, podOf } from "./cluster.ts"
import { policies } from "./policies.ts"
import { installed, type Manifest, objectsOf, overlays, render } from "./render.ts"
import { typeProblems } from "./types.ts"

const project = new URL("../../", import.meta.url)
const good = { dev: installed("dev"), production: installed("production") }

describe.each(overlays)("the overlay %s", (overlay) => {
  test("holds objects of the types of Kubernetes, with no field more", () => {
    expect(typeProblems(good[overlay])).toEqual([])
  })

  test.each(Object.entries(policies))("keeps the policy %s", (_, policy) => {
    expect(policy(good[overlay])).toEqual([])
  })
})

test("is tried here, whatever it is called", () => {
  expect(readdirSync(new URL("k8s/overlays", project)).toSorted()).toEqual([...overlays].toSorted())
})

test.each(overlays)("the doctor of docs/deploy.md may reach all that it asks, in %s", (overlay) => {
  const page = readFileSync(new URL("docs/deploy.md", project), "utf8")
  const asked = Array.from(page.matchAll(/exec deployment\/(\w+) -- node \S+ doctor/g), ([, role]) => role!)
  expect(asked).toHaveLength(2)
  for (const role of asked) {
    const pod = named(good[overlay], "Deployment", role)
    const addresses = addressesOf(environmentOf(good[overlay], podOf(pod).containers[0]).environment)
    expect(addresses.map(({ name }) => name)).toContain("READ_URL")
    for (const { host, name, port } of addresses)
      expect(
        atHost(good[overlay], host).some((there) => mayReach(good[overlay], pod, there, port)),
        `${role} may reach ${name}`
      ).toBe(true)
  }
})

test("production holds no secret", () => {
  expect(render("production").filter(({ kind }) => kind === "Secret")).toEqual([])
})

test("the image has the Node.js that the tests have", () => {
  const { devDependencies } = JSON.parse(readFileSync(new URL("package.json", project), "utf8"))
  const dockerfile = readFileSync(new URL("Dockerfile", project), "utf8")
  expect(/^ARG NODE=\S+:(\S+?)-/m.exec(dockerfile)?.[1]).toBe(devDependencies.node)
  expect(dockerfile).toMatch(/^USER 10001:10001$/m)
})

test("Node.js is told the same about its memory wherever a server is started", () => {
  const read = (file: string): string => readFileSync(new URL(file, project), "utf8")
  const { scripts } = JSON.parse(read("package.json"))
  const [, flag] = /^node (--\S+) bin\/darda\.js$/.exec(scripts.start)!
  expect(read("bin/darda.js")).toContain(`["${flag}", fileURLToPath(main)`)
  expect(read("Dockerfile")).toMatch(new RegExp(`^ENV .*NODE_OPTIONS=${flag}$`, "m"))
  expect(read("docs/operations.md")).toContain(`ExecStart=/usr/bin/node ${flag} `)
})

test("Skaffold builds and applies what is here", () => {
  const [{ build, manifests }] = objectsOf(readFileSync(new URL("skaffold.yaml", project), "utf8"))
  expect(build.artifacts.map(({ image }: Manifest) => image)).toEqual(["darda"])
  for (const folder of manifests.kustomize.paths)
    expect(parse(readFileSync(new URL(`${folder}/kustomization.yaml`, project), "utf8")).kind).toBe("Kustomization")
})

test("Docker Compose gives each role what it needs to start, as a user without rights", () => {
  const { services } = parse(readFileSync(new URL("docker-compose.yml", project), "utf8"), { merge: true })
  const roles = Object.entries<Manifest>(services).filter(([, { image }]) => image === "darda")
  expect(roles.map(([name]) => name).toSorted()).toEqual(["edge", "read", "write"])
  for (const [name, { command, environment, read_only, cap_drop, depends_on }] of roles) {
    expect(command).toEqual(["serve", "--roles", name])
    expect({ read_only, cap_drop }).toEqual({ read_only: true, cap_drop: ["ALL"] })
    expect(Object.keys(depends_on)).toEqual(expect.arrayContaining(["mongo", "rabbitmq", "redis"]))
    expect(decodeSettings(environment)).toMatchObject({ _tag: "Settings" })
  }
  for (const { image } of Object.values<Manifest>(services)) expect(image).toMatch(/^darda$|:\d+\.\d+\.\d+/)
})

/** Production with one thing changed. */
const broken = (change: (find: (kind: string, name: string) => Manifest, objects: Array<Manifest>) => void) => {
  const objects = structuredClone(good.production)
  change((kind, name) => {
    const found =
      named(objects, kind, name) ??
      objects.find((one) => one.kind === kind && new RegExp(`^${name}-[a-z0-9]{10}$`).test(one.metadata.name))
    if (found === undefined) throw new Error(`There is no ${kind} ${name}`)
    return found
  }, objects)
  return objects
}

const container = (workload: Manifest, index = 0): Manifest => podOf(workload).containers[index]

test.each<[string, RegExp, ReadonlyArray<Manifest>]>([
  [
    "a field that Kubernetes does not know",
    /Deployment\/edge: .*replica/,
    broken((find) => (find("Deployment", "edge").spec.replica = 3))
  ],
  [
    "a field of another type",
    /Deployment\/write: .*string/,
    broken((find) => (podOf(find("Deployment", "write")).terminationGracePeriodSeconds = "60"))
  ],
  [
    "a misspelt field far inside",
    /StatefulSet\/mongodb: .*mountpath/,
    broken((find) => (container(find("StatefulSet", "mongodb")).volumeMounts[0].mountpath = "/"))
  ],
  [
    "a field missing",
    /HTTPRoute\/darda: .*name/,
    broken((find) => delete find("HTTPRoute", "darda").spec.parentRefs[0].name)
  ],
  [
    "a field that the operator does not know",
    /PodMonitor\/darda: .*every/,
    broken((find) => (find("PodMonitor", "darda").spec.podMetricsEndpoints[0].every = "15s"))
  ]
])("the types refuse %s", (_, problem, objects) => {
  const problems = typeProblems(objects)
  expect(problems.length).toBeGreaterThan(0)
  for (const one of problems) expect(one).toMatch(problem)
})

const refused: { readonly [P in keyof typeof policies]: readonly [RegExp, ReadonlyArray<Manifest>] } = {
  restricted: [
    /^edge\/darda may write to its root file system$/,
    broken((find) => (container(find("Deployment", "edge")).securityContext.readOnlyRootFilesystem = false))
  ],
  noTokens: [
    /^read is given a token$/,
    broken((find) => delete podOf(find("Deployment", "read")).automountServiceAccountToken)
  ],
  resources: [
    /^redis\/sentinel has no limit on memory$/,
    broken((find) => delete container(find("StatefulSet", "redis"), 1).resources.limits)
  ],
  probes: [
    /^write(\/darda)? is restarted/,
    broken((find) => (container(find("Deployment", "write")).livenessProbe.httpGet.path = "/readyz"))
  ],
  flows: [
    /^edge-to-read allows port 8080, and read does not$|^edge may not reach read:8080$/,
    broken((_, objects) =>
      objects.splice(
        objects.findIndex(({ metadata }) => metadata.name === "read-from-edge"),
        1
      )
    )
  ],
  spread: [
    /^read has 0 PodDisruptionBudgets$/,
    broken((find) => (find("PodDisruptionBudget", "read").spec.selector.matchLabels = { a: "b" }))
  ],
  noSecrets: [
    /^GREETING of the ConfigMap darda-\w+ is a secret$/,
    broken((find) => (find("ConfigMap", "darda").data.GREETING = find("Secret", "redis").stringData.REDIS_PASSWORD))
  ],
  pinned: [
    /has an image without a version: docker\.io\/library\/redis:latest$|runs as/,
    broken((find) => (container(find("StatefulSet", "redis")).image = "docker.io/library/redis:latest"))
  ],
  grace: [
    /^edge is killed after 40 s, and needs more than 10 s \+ 30 s$/,
    broken((find) => (podOf(find("Deployment", "edge")).terminationGracePeriodSeconds = 40))
  ],
  settings: [/: JWT_ISSUER is not set; allowed: /, broken((find) => delete find("ConfigMap", "darda").data.JWT_ISSUER)],
  hashed: [
    /^a change of the ConfigMap mongodb rolls no pod$/,
    broken((find) => (find("ConfigMap", "mongodb").metadata.name = "mongodb"))
  ],
  scaling: [/^each apply sets read back to 3$/, broken((find) => (find("Deployment", "read").spec.replicas = 3))],
  members: [
    /^MEMBERS is mongodb-0\.mongodb:27017, and MongoDB has other replicas$/,
    broken((find) => (find("ConfigMap", "mongodb").data.MEMBERS = "mongodb-0.mongodb:27017"))
  ],
  memory: [
    /^rabbitmq\/rabbitmq may take NaN bytes for itself, of 2147483648 that it is given$/,
    broken((find) => {
      const { data } = find("ConfigMap", "rabbitmq")
      data["rabbitmq.conf"] = data["rabbitmq.conf"].replace(/absolute = .*/, "relative = 0.6")
    })
  ],
  outside: [
    /^\/metrics can be asked from outside$|^\/.* can be asked from outside$/,
    broken((find) =>
      find("HTTPRoute", "darda").spec.rules[0].matches.push({ path: { type: "PathPrefix", value: "/" } })
    )
  ],
  scraped: [
    /^Prometheus may not reach prometheus of rabbitmq$/,
    broken((_, objects) =>
      objects.splice(
        objects.findIndex(({ metadata }) => metadata.name === "rabbitmq-from-prometheus"),
        1
      )
    )
  ],
  together: [
    /^Service edge is in another namespace$/,
    broken((find) => (find("Service", "edge").metadata.namespace = "default"))
  ]
}

test.each(Object.entries(refused))("the policy %s refuses a broken manifest", (name, [problem, objects]) => {
  const problems = policies[name as keyof typeof policies](objects)
  expect(problems.length).toBeGreaterThan(0)
  for (const one of problems) expect(one).toMatch(problem)
})
