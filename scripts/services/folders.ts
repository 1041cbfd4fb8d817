/** Where engines keep their data: in the checkout, in folders that git ignores. */
import { fileURLToPath } from "node:url"

const cache = (name: string) => fileURLToPath(new URL(`../../.cache/${name}`, import.meta.url))

/** Of `npm run services`: `DARDA_SERVICES_FOLDER` is another, which a checkout of its own has already. */
export const servicesFolder = process.env["DARDA_SERVICES_FOLDER"] || cache("services")
/** Of tests: a folder for each process that started engines. */
export const testFolder = cache("test-engines")
