/** What follows from the objects of an overlay: which pods there are, who reaches whom, and what a container is given. */
import type { Manifest } from "./render.ts"

export const ofKind = (objects: ReadonlyArray<Manifest>, ...kinds: ReadonlyArray<string>): ReadonlyArray<Manifest> =>
  objects.filter(({ kind }) => kinds.includes(kind))

export const named = (objects: ReadonlyArray<Manifest>, kind: string, name: string): Manifest =>
  objects.find((object) => object.kind === kind && object.metadata.name === name)

/** Deployments and StatefulSets: whatever has pods here. */
export const workloads = (objects: ReadonlyArray<Manifest>): ReadonlyArray<Manifest> =>
  ofKind(objects, "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")

export const roles = (objects: ReadonlyArray<Manifest>): ReadonlyArray<Manifest> =>
  ofKind(objects, "Deployment").filter((one) => one.metadata.labels?.["app.kubernetes.io/name"] === "darda")

export const podOf = (workload: Manifest): Manifest => workload.spec.template.spec

export const containersOf = (workload: Manifest): ReadonlyArray<Manifest> => [
  ...(podOf(workload).initContainers ?? []),
  ...podOf(workload).containers
]

export const labelsOf = (workload: Manifest): Readonly<Record<string, string>> => workload.spec.template.metadata.labels

/** Whether a selector of labels takes a pod with these. An empty one takes all. */
export const selects = (selector: Manifest, labels: Readonly<Record<string, string>>): boolean =>
  Object.entries(selector?.matchLabels ?? selector ?? {}).every(([name, value]) => labels[name] === value)

/** The labels of a workload's pods, with the one that Kubernetes gives the first pod of a StatefulSet. */
const podLabels = (workload: Manifest, ordinal = 0): Readonly<Record<string, string>> =>
  workload.kind === "StatefulSet"
    ? { ...labelsOf(workload), "statefulset.kubernetes.io/pod-name": `${workload.metadata.name}-${ordinal}` }
    : labelsOf(workload)

/** The workloads whose pods a Service leads to. */
export const behind = (objects: ReadonlyArray<Manifest>, service: Manifest): ReadonlyArray<Manifest> =>
  workloads(objects).filter((workload) =>
    Array.from({ length: workload.spec.replicas ?? 1 }, (_, ordinal) => podLabels(workload, ordinal)).some((labels) =>
      selects(service.spec.selector, labels)
    )
  )

/** What a container is given as its environment, as Kubernetes works it out. References that lead nowhere are in `missing`. */
export const environmentOf = (objects: ReadonlyArray<Manifest>, container: Manifest) => {
  const environment: Record<string, string> = {}
  const missing: Array<string> = []
  const contentOf = (kind: "ConfigMap" | "Secret", name: string): Readonly<Record<string, string>> => {
    const object = named(objects, kind, name)
    if (object === undefined) missing.push(`${kind} ${name}`)
    const decoded = Object.entries<string>(object?.data ?? {}).map(([key, value]) => [
      key,
      kind === "Secret" ? Buffer.from(value, "base64").toString() : value
    ])
    return { ...Object.fromEntries(decoded), ...object?.stringData }
  }
  const keyOf = (kind: "ConfigMap" | "Secret", { name, key }: Manifest): string => {
    const value = contentOf(kind, name)[key]
    if (value === undefined) missing.push(`${key} of ${kind} ${name}`)
    return value ?? ""
  }
  for (const { configMapRef, secretRef } of container.envFrom ?? []) {
    const content = configMapRef ? contentOf("ConfigMap", configMapRef.name) : contentOf("Secret", secretRef.name)
    // Only what can be the name of a variable is one: files in a Secret are not.
    for (const [key, value] of Object.entries(content)) if (/^[A-Za-z_]\w*$/.test(key)) environment[key] = value
  }
  for (const { name, value, valueFrom } of container.env ?? []) {
    if (valueFrom?.secretKeyRef) environment[name] = keyOf("Secret", valueFrom.secretKeyRef)
    else if (valueFrom?.configMapKeyRef) environment[name] = keyOf("ConfigMap", valueFrom.configMapKeyRef)
    else if (valueFrom?.fieldRef) environment[name] = `<${valueFrom.fieldRef.fieldPath}>`
    else
      environment[name] = (value ?? "").replace(
        /\$\((\w+)\)/g,
        (all: string, known: string) => environment[known] ?? all
      )
  }
  return { environment, missing }
}

/** The hosts and ports of the addresses in an environment, by the name of the variable. */
export const addressesOf = (
  environment: Readonly<Record<string, string>>
): ReadonlyArray<{ readonly name: string; readonly host: string; readonly port: number }> =>
  ["MONGO_URL", "AMQP_URL", "REDIS_URL", "READ_URL"].flatMap((name) =>
    (environment[name] ?? "")
      .replace(/^[a-z]+:\/\//, "")
      .replace(/^[^@/]*@/, "")
      .replace(/[/?].*$/, "")
      .split(",")
      .filter((place) => place !== "")
      .map((place) => {
        const [host = "", port = ""] = place.split(":")
        return { name, host, port: Number(port) }
      })
  )

/** The workloads that a name of the cluster leads to: a Service, or a pod of a StatefulSet behind one without an address. */
export const atHost = (objects: ReadonlyArray<Manifest>, host: string): ReadonlyArray<Manifest> => {
  const [first = "", second] = host.split(".")
  if (second === undefined) {
    const service = named(objects, "Service", first)
    return service === undefined ? [] : behind(objects, service)
  }
  return workloads(objects).filter(
    (workload) =>
      workload.kind === "StatefulSet" &&
      workload.spec.serviceName === second &&
      named(objects, "Service", second) !== undefined &&
      first.startsWith(`${workload.metadata.name}-`) &&
      Number(first.slice(workload.metadata.name.length + 1)) < workload.spec.replicas
  )
}

/** Whether the NetworkPolicies let pods of one workload open a connection to a port of another's. */
export const mayReach = (objects: ReadonlyArray<Manifest>, from: Manifest, to: Manifest, port: number): boolean =>
  oneWay(objects, "egress", from, to, port) && oneWay(objects, "ingress", to, from, port)

/** Whether a rule of that direction, on the pods of `at`, names those of `other`. */
export const oneWay = (
  objects: ReadonlyArray<Manifest>,
  direction: "ingress" | "egress",
  at: Manifest,
  other: Manifest,
  port: number
): boolean =>
  ofKind(objects, "NetworkPolicy")
    .filter(({ spec }) => selects(spec.podSelector, labelsOf(at)))
    .flatMap(({ spec }) => spec[direction] ?? [])
    .some(
      (rule: Manifest) =>
        portsOf(rule).includes(port) &&
        peersOf(rule).some(
          ({ podSelector, namespaceSelector }) =>
            podSelector !== undefined && namespaceSelector === undefined && selects(podSelector, labelsOf(other))
        )
    )

export const portsOf = (rule: Manifest): ReadonlyArray<number> => (rule.ports ?? []).map(({ port }: Manifest) => port)
export const peersOf = (rule: Manifest): ReadonlyArray<Manifest> => rule.from ?? rule.to ?? []

/** The ports that the containers of a workload name. */
export const portsIn = (workload: Manifest): ReadonlyArray<Manifest> =>
  containersOf(workload).flatMap(({ ports }) => ports ?? [])

/** How long Kubernetes waits before it sends SIGTERM, in seconds. */
export const preStopSeconds = (container: Manifest): number => {
  const { sleep, exec } = container.lifecycle?.preStop ?? {}
  if (sleep !== undefined) return sleep.seconds
  if (exec === undefined) return 0
  const at = exec.command.indexOf("--timeout")
  return at < 0 ? Infinity : Number(exec.command[at + 1])
}
