import * as HttpApi from "effect/http-api/HttpApi"
import type * as HttpApiGroup from "effect/http-api/HttpApiGroup"
import type { KnownPath } from "./guard.ts"

/** Paths are matched as they are written: none has two spellings. Parameters may be as long as a request's head allows. */
export const ROUTES = {
  ignoreTrailingSlash: false,
  ignoreDuplicateSlashes: false,
  caseSensitive: true,
  maxParamLength: 16_384
}

const patternOf = (path: string): RegExp => new RegExp(`^${path.replace(/:[a-z]+/g, "[^/]+")}$`)

/** The paths of an API and others that are only read, with their methods; without those in `except`. */
export const knownPaths = <Id extends string, Groups extends HttpApiGroup.Constraint>(
  api: HttpApi.HttpApi<Id, Groups>,
  others: ReadonlyArray<string> = [],
  except: ReadonlyArray<string> = []
): ReadonlyArray<KnownPath> => {
  const methods = new Map<string, Array<string>>(others.map((path) => [path, ["GET"]]))
  HttpApi.reflect(api, {
    onGroup: () => {},
    onEndpoint: ({ endpoint: { method, path } }) => {
      if (except.includes(path)) return
      methods.set(path, [...(methods.get(path) ?? []), method])
    }
  })
  return [...methods].map(([path, methods]) => ({ pattern: patternOf(path), methods }))
}
