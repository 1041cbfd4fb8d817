/** What every overlay has to keep. Each policy answers what is wrong, one sentence each; manifests.k8s.test.ts has a broken manifest for each. */
import { readFileSync } from "node:fs"
import { decodeSettings, describeProblem } from "../../src/platform/Settings.ts"
import {
  addressesOf,
  atHost,
  behind,
  containersOf,
  environmentOf,
  labelsOf,
  mayReach,
  named,
  ofKind,
  oneWay,
  peersOf,
  podOf,
  portsIn,
  portsOf,
  preStopSeconds,
  roles,
  selects,
  workloads
} from "./cluster.ts"
import type { Manifest } from "./render.ts"

type Policy = (objects: ReadonlyArray<Manifest>) => ReadonlyArray<string>

const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"))

/** A problem for each thing of which the check does not hold. */
const each = <A>(things: ReadonlyArray<A>, check: (thing: A) => ReadonlyArray<string | false>): ReadonlyArray<string> =>
  things.flatMap(check).filter((problem) => problem !== false)

const eachContainer = (
  objects: ReadonlyArray<Manifest>,
  check: (container: Manifest, workload: Manifest, where: string) => ReadonlyArray<string | false>
): ReadonlyArray<string> =>
  workloads(objects).flatMap((workload) =>
    each(containersOf(workload), (container) =>
      check(container, workload, `${workload.metadata.name}/${container.name}`)
    )
  )

/** Those that do not run before the others and end. */
const lasting = (workload: Manifest): ReadonlyArray<Manifest> => podOf(workload).containers

const restricted: Policy = (objects) => [
  ...each(ofKind(objects, "Namespace"), ({ metadata }) => [
    metadata.labels["pod-security.kubernetes.io/enforce"] !== "restricted" &&
      "the namespace does not enforce restricted"
  ]),
  ...each(workloads(objects), (workload) => {
    const pod = podOf(workload)
    const { name } = workload.metadata
    const { runAsNonRoot, runAsUser, seccompProfile } = pod.securityContext ?? {}
    return [
      runAsNonRoot !== true && `${name} may run as root`,
      !(runAsUser > 0) && `${name} has no user number`,
      seccompProfile?.type !== "RuntimeDefault" && `${name} has no seccomp profile`,
      (pod.hostNetwork ?? pod.hostPID ?? pod.hostIPC ?? false) !== false && `${name} shares its machine's namespaces`,
      (pod.volumes ?? []).some((volume: Manifest) => volume.hostPath !== undefined) &&
        `${name} mounts its machine's files`
    ]
  }),
  ...eachContainer(objects, (container, _, where) => {
    const { allowPrivilegeEscalation, capabilities, readOnlyRootFilesystem, ...rest } = container.securityContext ?? {}
    return [
      allowPrivilegeEscalation !== false && `${where} may gain privileges`,
      readOnlyRootFilesystem !== true && `${where} may write to its root file system`,
      !(capabilities?.drop?.length === 1 && capabilities.drop[0] === "ALL") && `${where} keeps capabilities`,
      capabilities?.add !== undefined && `${where} adds capabilities`,
      Object.keys(rest).length > 0 && `${where} changes ${Object.keys(rest).join(", ")} of its pod`
    ]
  })
]

const noTokens: Policy = (objects) => [
  ...each(ofKind(objects, "ServiceAccount"), ({ automountServiceAccountToken, metadata }) => [
    automountServiceAccountToken !== false && `the ServiceAccount ${metadata.name} hands out tokens`
  ]),
  ...each(workloads(objects), (workload) => {
    const { automountServiceAccountToken, enableServiceLinks, serviceAccountName } = podOf(workload)
    const { name } = workload.metadata
    return [
      automountServiceAccountToken !== false && `${name} is given a token`,
      enableServiceLinks !== false && `${name} is given variables for every Service`,
      named(objects, "ServiceAccount", serviceAccountName) === undefined && `${name} has no ServiceAccount of its own`
    ]
  })
]

const resources: Policy = (objects) =>
  eachContainer(objects, ({ resources }, _, where) => [
    resources?.requests?.cpu === undefined && `${where} requests no CPU`,
    resources?.requests?.memory === undefined && `${where} requests no memory`,
    resources?.limits?.memory === undefined && `${where} has no limit on memory`,
    resources?.limits?.cpu !== undefined && `${where} is throttled by a limit on CPU`
  ])

const seconds = ({ failureThreshold = 3, periodSeconds = 10 }: Manifest): number => failureThreshold * periodSeconds

const probes: Policy = (objects) => [
  ...each(roles(objects), (role) =>
    lasting(role).flatMap(({ livenessProbe, readinessProbe, startupProbe }) => [
      startupProbe?.httpGet?.path !== "/healthz" && `${role.metadata.name} is not asked whether it has booted`,
      livenessProbe?.httpGet?.path !== "/healthz" &&
        `${role.metadata.name} is restarted for something else than its event loop`,
      readinessProbe?.httpGet?.path !== "/readyz" && `${role.metadata.name} is not asked whether it serves`,
      startupProbe && seconds(startupProbe) < 120 && `${role.metadata.name} has no time to boot`,
      livenessProbe && seconds(livenessProbe) < 30 && `${role.metadata.name} is restarted for a pause`,
      // Readiness checks engines and takes up to 2 s.
      readinessProbe &&
        !(readinessProbe.timeoutSeconds > 2) &&
        `${role.metadata.name} has no time to say whether it serves`
    ])
  ),
  ...eachContainer(objects, (container, workload, where) => {
    if (!lasting(workload).includes(container)) return []
    const asked = [container.startupProbe, container.livenessProbe, container.readinessProbe].filter(Boolean)
    const known = (container.ports ?? []).flatMap(({ name, containerPort }: Manifest) => [name, containerPort])
    return [
      // One container may answer for another, as it does for mongod.
      !lasting(workload).some(({ readinessProbe }) => readinessProbe !== undefined) &&
        `${where} is never asked whether it serves`,
      asked.length === 0 && `${where} is never asked anything`,
      container.livenessProbe?.httpGet?.path === "/readyz" && `${where} is restarted when others are away`,
      asked.some(({ httpGet, tcpSocket }) => !known.includes((httpGet ?? tcpSocket)?.port)) &&
        `${where} is asked on a port that it does not name`
    ]
  })
]

/** Ports that only Kubernetes' own probes ask. */
const probed = (workload: Manifest): ReadonlyArray<number> =>
  lasting(workload).flatMap(({ livenessProbe, ports = [], readinessProbe, startupProbe }) =>
    [livenessProbe, readinessProbe, startupProbe]
      .map((probe) => (probe?.httpGet ?? probe?.tcpSocket)?.port)
      .flatMap((asked) => ports.filter(({ name }: Manifest) => name === asked))
      .map(({ containerPort }: Manifest) => containerPort)
  )

const flows: Policy = (objects) => {
  const policies = ofKind(objects, "NetworkPolicy")
  const pods = workloads(objects)
  const numbers = (workload: Manifest): ReadonlyArray<number> =>
    portsIn(workload).map(({ containerPort }) => containerPort)
  const denied = policies.some(
    ({ spec }) =>
      Object.keys(spec.podSelector).length === 0 &&
      spec.policyTypes.includes("Ingress") &&
      spec.policyTypes.includes("Egress") &&
      spec.ingress === undefined &&
      spec.egress === undefined
  )
  return [
    ...(denied ? [] : ["nothing denies what is not allowed"]),
    ...each(policies, ({ metadata: { name }, spec }) => {
      const at = pods.filter((workload) => selects(spec.podSelector, labelsOf(workload)))
      const rules = [...(spec.ingress ?? []), ...(spec.egress ?? [])]
      return [
        at.length === 0 && `${name} is about no pod`,
        rules.some((rule) => peersOf(rule).length === 0) && `${name} lets anyone`,
        rules.some((rule) => portsOf(rule).length === 0) && `${name} lets any port`,
        ...(spec.ingress ?? []).flatMap((rule: Manifest) =>
          portsOf(rule)
            .filter((port) => !at.every((workload) => numbers(workload).includes(port)))
            .map((port) => `${name} opens port ${port}, which nothing there has`)
        ),
        // Both ends have to agree, or nothing flows.
        ...(["ingress", "egress"] as const).flatMap((direction) =>
          (spec[direction] ?? []).flatMap((rule: Manifest) =>
            peersOf(rule)
              .filter(
                ({ namespaceSelector, podSelector }) => podSelector !== undefined && namespaceSelector === undefined
              )
              .flatMap(({ podSelector }) => {
                const others = pods.filter((workload) => selects(podSelector, labelsOf(workload)))
                if (others.length === 0) return [`${name} names pods that are not there`]
                const back = direction === "ingress" ? "egress" : "ingress"
                return at.flatMap((one) =>
                  others.flatMap((other) =>
                    portsOf(rule)
                      .filter((port) => !oneWay(objects, back, other, one, port))
                      .map((port) => `${name} allows port ${port}, and ${other.metadata.name} does not`)
                  )
                )
              })
          )
        )
      ]
    }),
    ...each(pods, (workload) =>
      numbers(workload).map((port) => {
        const open = policies.some(
          ({ spec }) =>
            selects(spec.podSelector, labelsOf(workload)) &&
            (spec.ingress ?? []).some((rule: Manifest) => portsOf(rule).includes(port))
        )
        // What is open for Prometheus alone is closed in an overlay without it.
        const metrics = portsIn(workload).some(
          ({ containerPort, name }) => containerPort === port && name === "prometheus"
        )
        return (
          !open &&
          !probed(workload).includes(port) &&
          !metrics &&
          `nobody may reach port ${port} of ${workload.metadata.name}`
        )
      })
    ),
    ...each(ofKind(objects, "Service"), (service) => {
      const led = behind(objects, service)
      if (led.length === 0) return [`the Service ${service.metadata.name} leads nowhere`]
      return service.spec.ports.map(
        ({ targetPort }: Manifest) =>
          !led.every((workload) => portsIn(workload).some(({ name }) => name === targetPort)) &&
          `the Service ${service.metadata.name} leads to a port ${targetPort} that is not there`
      )
    }),
    ...each(roles(objects), (role) =>
      addressesOf(environmentOf(objects, lasting(role)[0]).environment)
        .filter(({ name }) => name !== "READ_URL" || role.metadata.name === "edge")
        .flatMap(({ host, name, port }) => {
          const there = atHost(objects, host)
          if (there.length === 0) return [`${name} of ${role.metadata.name} names ${host}, which is nothing here`]
          return there.map(
            (workload) =>
              !mayReach(objects, role, workload, port) && `${role.metadata.name} may not reach ${host}:${port}`
          )
        })
    )
  ]
}

const spread: Policy = (objects) =>
  each(ofKind(objects, "Deployment", "StatefulSet"), (workload) => {
    const { name } = workload.metadata
    const budgets = ofKind(objects, "PodDisruptionBudget").filter(({ spec }) =>
      selects(spec.selector, labelsOf(workload))
    )
    const constraints: ReadonlyArray<Manifest> = podOf(workload).topologySpreadConstraints ?? []
    const over = (key: string) =>
      constraints.some(
        ({ labelSelector, topologyKey }) => topologyKey === key && selects(labelSelector, labelsOf(workload))
      )
    return [
      budgets.length !== 1 && `${name} has ${budgets.length} PodDisruptionBudgets`,
      // minAvailable holds up a node for ever where a single pod runs.
      budgets.some(({ spec }) => spec.maxUnavailable !== 1) && `more than one pod of ${name} may be taken away at once`,
      !over("kubernetes.io/hostname") && `${name} is not spread over machines`,
      !over("topology.kubernetes.io/zone") && `${name} is not spread over zones`
    ]
  })

const noSecrets: Policy = (objects) => {
  const secrets = ofKind(objects, "Secret").flatMap(({ data = {}, stringData = {} }) => [
    ...Object.values<string>(data).map((value) => Buffer.from(value, "base64").toString()),
    ...Object.values<string>(stringData)
  ])
  const looksSecret = (name: string, value: string): boolean =>
    /PASSWORD|PASS$|SECRET|TOKEN|CREDENTIAL|PRIVATE/i.test(name) ||
    /:\/\/[^/\s:@]*:[^/\s@]+@/.test(value) ||
    /-----BEGIN [A-Z ]*PRIVATE/.test(value) ||
    secrets.some((secret) => secret.length >= 8 && value.includes(secret))
  return [
    ...each(ofKind(objects, "ConfigMap"), ({ data = {}, metadata }) =>
      Object.entries<string>(data).map(
        ([name, value]) => looksSecret(name, value) && `${name} of the ConfigMap ${metadata.name} is a secret`
      )
    ),
    ...eachContainer(objects, ({ args = [], command = [], env = [] }, _, where) => [
      ...env.map(
        ({ name, value }: Manifest) =>
          value !== undefined && looksSecret(name, value) && `${name} of ${where} is a secret`
      ),
      [...command, ...args].some((word) => looksSecret("", word)) && `${where} is started with a secret`
    ])
  ]
}

const pinned: Policy = (objects) => {
  const seen = new Map<string, string>()
  return eachContainer(objects, ({ image, imagePullPolicy }, _, where) => {
    const [, name = image, tag = ""] = /^(.*?):([^:/]+)$/.exec(image) ?? []
    const other = seen.get(name)
    seen.set(name, tag)
    return [
      !/^\d+\.\d+\.\d+|^sha256$/.test(tag) && `${where} has an image without a version: ${image}`,
      other !== undefined && other !== tag && `${name} runs as ${other} and as ${tag}`,
      /(^|\/)darda$/.test(name) && tag !== version && `${where} runs ${tag}, and this is ${version}`,
      imagePullPolicy === "Always" && `${where} cannot start while its registry is away`
    ]
  })
}

const grace: Policy = (objects) =>
  each(workloads(objects), (workload) => {
    const { name } = workload.metadata
    const wait = Math.max(...lasting(workload).map(preStopSeconds))
    const role = roles(objects).includes(workload)
    const drain = role ? Number(environmentOf(objects, lasting(workload)[0]).environment["DRAIN_SECONDS"]) : 0
    const given = podOf(workload).terminationGracePeriodSeconds ?? 30
    const served = ofKind(objects, "Service").some((service) => behind(objects, service).includes(workload))
    return [
      !(given > wait + drain) && `${name} is killed after ${given} s, and needs more than ${wait} s + ${drain} s`,
      role && served && !(wait >= 5) && `${name} ends while the cluster still leads to it`,
      role && lasting(workload).some(({ lifecycle }) => lifecycle?.preStop?.exec) && `${name} needs a program to wait`
    ]
  })

const settings: Policy = (objects) => [
  ...eachContainer(objects, (container, _, where) =>
    environmentOf(objects, container).missing.map((what) => `${where} asks for ${what}, which is not there`)
  ),
  ...each(workloads(objects), (workload) =>
    (podOf(workload).volumes ?? []).flatMap(({ configMap, secret }: Manifest) => {
      const kind = configMap ? "ConfigMap" : "Secret"
      const name = configMap?.name ?? secret?.secretName
      if (name === undefined) return []
      const object = named(objects, kind, name)
      if (object === undefined) return [`${workload.metadata.name} mounts the ${kind} ${name}, which is not there`]
      return ((configMap ?? secret).items ?? []).map(
        ({ key }: Manifest) =>
          (object.data?.[key] ?? object.stringData?.[key]) === undefined && `the ${kind} ${name} has no ${key}`
      )
    })
  ),
  ...each(roles(objects), (role) => {
    const { environment } = environmentOf(objects, lasting(role)[0])
    const decoded = decodeSettings(environment)
    if (decoded._tag === "Problems")
      return decoded.problems.map((problem) => `${role.metadata.name}: ${describeProblem(problem)}`)
    const { values } = decoded
    return [
      values.mongoUrl === undefined && `${role.metadata.name} has no engines`,
      values.clusterSecret === undefined && `${role.metadata.name} has no CLUSTER_SECRET`,
      !portsIn(role).some(({ containerPort }) => containerPort === values.port) &&
        `${role.metadata.name} listens on ${values.port}, which is not its port`
    ]
  })
]

const hashed: Policy = (objects) =>
  each(ofKind(objects, "ConfigMap", "Secret"), ({ kind, metadata }) => [
    // Made outside, and so without a hash.
    !(kind === "Secret" && ["darda", "mongodb", "rabbitmq", "redis"].includes(metadata.name)) &&
      // Grafana looks for what has the label, by no name.
      metadata.labels?.["grafana_dashboard"] === undefined &&
      !/-[a-z0-9]{10}$/.test(metadata.name) &&
      `a change of the ${kind} ${metadata.name} rolls no pod`
  ])

const scaling: Policy = (objects) =>
  each(ofKind(objects, "HorizontalPodAutoscaler"), ({ metadata: { name }, spec }) => {
    const target = named(objects, spec.scaleTargetRef.kind, spec.scaleTargetRef.name)
    if (target === undefined) return [`${name} scales nothing`]
    const { environment } = environmentOf(objects, lasting(target)[0])
    const metrics = spec.metrics.map(({ pods, resource }: Manifest) => pods?.metric.name ?? resource?.name)
    return [
      target.spec.replicas !== undefined && `each apply sets ${name} back to ${target.spec.replicas}`,
      spec.minReplicas < 2 && `${name} may be a single pod`,
      !metrics.includes("cpu") && `${name} does not scale on CPU`,
      name === "edge" && !metrics.includes("darda_connections") && "edge does not scale on connections",
      name === "write" &&
        spec.maxReplicas > Number(environment["PARTITIONS"]) &&
        `write may be ${spec.maxReplicas} pods, and there are ${environment["PARTITIONS"]} partitions`
    ]
  })

const members: Policy = (objects) => {
  const mongodb = named(objects, "StatefulSet", "mongodb")
  const member = lasting(mongodb).find(({ name }) => name === "member")
  const hosts = environmentOf(objects, member).environment["MEMBERS"]?.split(",") ?? []
  const expected = (workload: Manifest, more: string) =>
    Array.from(
      { length: workload.spec.replicas },
      (_, n) => `${workload.metadata.name}-${n}.${workload.spec.serviceName}${more}`
    )
  const rabbitmq = named(objects, "StatefulSet", "rabbitmq")
  const config = podOf(rabbitmq).volumes.find(({ name }: Manifest) => name === "config").configMap.name
  const nodes = [
    ...JSON.stringify(named(objects, "ConfigMap", config).data).matchAll(/nodes\.\d+ = rabbit@([\w.-]+)/g)
  ].map(([, node]) => node)
  return [
    hosts.join() !== expected(mongodb, ":27017").join() && `MEMBERS is ${hosts.join()}, and MongoDB has other replicas`,
    rabbitmq.spec.replicas > 1 &&
      nodes.join() !== expected(rabbitmq, "").join() &&
      `RabbitMQ looks for ${nodes.join()}, and has other replicas`
  ].filter((problem) => problem !== false)
}

const UNITS: Readonly<Record<string, number>> = { k: 2 ** 10, m: 2 ** 20, g: 2 ** 30 }

/** An amount of memory, in bytes: of Kubernetes (2Gi), RabbitMQ (1200MiB) or Redis (1gb). */
const bytesOf = (amount = ""): number => {
  const [, digits, unit = ""] = /^([\d.]+)(?:([kmg])i?b?)?$/i.exec(amount) ?? []
  return Number(digits ?? NaN) * (UNITS[unit.toLowerCase()] ?? 1)
}

/** What of a container's limit an engine may be told to fill, the rest being for connections, copies and the system's cache of files. */
const OWN = { mongod: 0.5, rabbitmq: 0.7, redis: 0.75 }

const memory: Policy = (objects) => {
  const fileOf = (workload: Manifest, file: string): string => {
    const { configMap } = podOf(workload).volumes.find(({ name }: Manifest) => name === "config") ?? {}
    return named(objects, "ConfigMap", configMap?.name)?.data?.[file] ?? ""
  }
  const told = (name: string, workload: Manifest, command: ReadonlyArray<string>): number => {
    if (name === "mongod") return bytesOf(/--wiredTigerCacheSizeGB=(\S+)/.exec(command.join(" "))?.[1]) * UNITS["g"]!
    const [file, line] =
      name === "redis"
        ? (["redis.conf", /^maxmemory (\S+)$/m] as const)
        : (["rabbitmq.conf", /^vm_memory_high_watermark\.absolute = (\S+)$/m] as const)
    return bytesOf(line.exec(fileOf(workload, file))?.[1])
  }
  return eachContainer(objects, ({ command = [], name, resources: { limits } = {} }, workload, where) => {
    const share = OWN[name as keyof typeof OWN]
    if (share === undefined) return []
    const own = told(name, workload, command)
    const limit = bytesOf(limits?.memory)
    return [!(own <= limit * share) && `${where} may take ${own} bytes for itself, of ${limit} that it is given`]
  })
}

const outside: Policy = (objects) =>
  each(ofKind(objects, "HTTPRoute"), ({ spec }) =>
    spec.rules.flatMap(({ backendRefs, matches = [] }: Manifest) => [
      matches.length === 0 && "the route lets everything in",
      ...["/metrics", "/healthz", "/readyz", "/query/v1/inbox"].map(
        (inner) =>
          matches.some(({ path }: Manifest) =>
            path.type === "Exact" ? path.value === inner : path.value === "/" || inner.startsWith(path.value)
          ) && `${inner} can be asked from outside`
      ),
      ...backendRefs.map(
        ({ name, port }: Manifest) =>
          !named(objects, "Service", name)?.spec.ports.some((open: Manifest) => open.port === port) &&
          `the route leads to ${name}:${port}, which is not there`
      )
    ])
  )

const scraped: Policy = (objects) =>
  each(ofKind(objects, "PodMonitor"), ({ metadata: { name }, spec }) => {
    const there = workloads(objects).filter((workload) => selects(spec.selector, labelsOf(workload)))
    return [
      there.length === 0 && `${name} scrapes nothing`,
      ...there.flatMap((workload) =>
        spec.podMetricsEndpoints.map(({ port }: Manifest) => {
          const number = portsIn(workload).find((open) => open.name === port)?.containerPort
          const open = ofKind(objects, "NetworkPolicy").some(
            (policy) =>
              selects(policy.spec.podSelector, labelsOf(workload)) &&
              (policy.spec.ingress ?? []).some(
                (rule: Manifest) =>
                  portsOf(rule).includes(number) &&
                  peersOf(rule).some(
                    ({ namespaceSelector }) =>
                      namespaceSelector?.matchLabels?.["kubernetes.io/metadata.name"] === "monitoring"
                  )
              )
          )
          return !open && `Prometheus may not reach ${port} of ${workload.metadata.name}`
        })
      )
    ]
  })

const together: Policy = (objects) =>
  each(objects, ({ kind, metadata }) => [
    kind !== "Namespace" && metadata.namespace !== "darda" && `${kind} ${metadata.name} is in another namespace`,
    metadata.labels?.["app.kubernetes.io/part-of"] !== "darda" &&
      `${kind} ${metadata.name} does not say what it is part of`
  ])

export const policies = {
  restricted,
  noTokens,
  resources,
  probes,
  flows,
  spread,
  noSecrets,
  pinned,
  grace,
  settings,
  hashed,
  scaling,
  members,
  memory,
  outside,
  scraped,
  together
} as const
