/** People at the web app, in a real browser. Everything waits for what a person would see, never for time. */
import { mkdirSync } from "node:fs"
import { fileURLToPath } from "node:url"
import {
  type Browser,
  type BrowserContextOptions,
  chromium as playwright,
  type Locator,
  type Page
} from "playwright-core"
import { chromium, chromiumArgs } from "./chromium.ts"

const DEADLINE_MS = 20_000
const artifacts = fileURLToPath(new URL("../../artifacts/", import.meta.url))

/** What the app says about its connection shows up here when the server is away; that is no fault of the page. */
const EXPECTED = /net::ERR_|WebSocket connection to|Failed to load resource/

/** Starts the browser, with a profile of its own that goes with it. */
export const launchBrowser = (): Promise<Browser> =>
  playwright.launch({
    executablePath: chromium(),
    args: [
      ...chromiumArgs,
      "--disable-gpu",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync"
    ]
  })

/** Two sizes that people have: a telephone and a laptop. */
export const PHONE: BrowserContextOptions = {
  viewport: { width: 390, height: 844 },
  deviceScaleFactor: 2,
  isMobile: true,
  hasTouch: true
}
export const LAPTOP: BrowserContextOptions = { viewport: { width: 1280, height: 800 } }

/** How far a message of one's own has got, as its tick says. */
export type Tick = "sending" | "sent" | "persisted" | "delivered" | "seen" | "failed"

/** One person's device: a browser context (its own storage) with one page. */
export class Person {
  readonly page: Page
  readonly name: string
  /** What went wrong in the page, in its own words; a good page has none. */
  readonly faults: string[] = []

  private constructor(page: Page, name: string) {
    this.page = page
    this.name = name
    page.setDefaultTimeout(DEADLINE_MS)
    page.on("pageerror", (error) => this.faults.push(error.stack ?? error.message))
    page.on("console", (message) => {
      if (message.type() === "error" && !EXPECTED.test(message.text())) this.faults.push(message.text())
    })
    page.on("dialog", (dialog) => {
      this.faults.push(`a dialog opened: ${dialog.message()}`)
      void dialog.dismiss()
    })
  }

  /** Opens the app on a new device. */
  static async atDoor(
    browser: Browser,
    url: string,
    name: string,
    device: BrowserContextOptions = LAPTOP
  ): Promise<Person> {
    const context = await browser.newContext({ reducedMotion: "reduce", locale: "en-GB", ...device })
    const person = new Person(await context.newPage(), name)
    await person.page.goto(`${url}/`)
    return person
  }

  /** Opens the app on a new device and logs in. */
  static async loggedIn(browser: Browser, url: string, name: string, device?: BrowserContextOptions): Promise<Person> {
    const person = await Person.atDoor(browser, url, name, device)
    await person.page.getByLabel("Name", { exact: true }).fill(name)
    await person.page.getByRole("button", { name: "Log in", exact: true }).click()
    await person.button("New chat").waitFor()
    return person
  }

  /** Leaves, and tells what went wrong in the page. */
  async close(): Promise<readonly string[]> {
    await this.page.context().close()
    return this.faults
  }

  button(name: string): Locator {
    return this.page.getByRole("button", { name, exact: true })
  }

  get writingField(): Locator {
    return this.page.getByRole("textbox", { name: "Message", exact: true })
  }

  /** The line of a conversation in the list, by its title. */
  line(title: string): Locator {
    return this.page
      .getByRole("navigation", { name: "Conversations" })
      .locator("a")
      .filter({
        has: this.page.getByText(title, { exact: true })
      })
  }

  /** The row of the message with exactly this text. */
  row(text: string): Locator {
    return this.page.locator("li.row").filter({ has: this.page.locator(".body").getByText(text, { exact: true }) })
  }

  /** Starts a chat with somebody by name. */
  async chatWith(other: string): Promise<void> {
    await this.button("New chat").click()
    await this.page.getByRole("dialog").getByLabel("Name", { exact: true }).fill(other)
    await this.button("Open chat").click()
    await this.writingField.waitFor()
  }

  /** Writes a message and sends it by the Enter key. */
  async say(text: string): Promise<void> {
    await this.writingField.fill(text)
    await this.writingField.press("Enter")
  }

  /** Waits until the open conversation shows these messages, all of them, once and in this order. */
  async sees(...expected: readonly string[]): Promise<void> {
    const read = (): Promise<readonly string[]> => this.page.locator("li.row .body").allTextContents()
    await until(`${this.name} to see ${JSON.stringify(expected)}`, read, (texts) => same(texts, expected))
  }

  /** Waits until the tick of one's own message says this. */
  async tick(text: string, ...states: readonly Tick[]): Promise<void> {
    const read = async (): Promise<string> =>
      (await this.row(text)
        .locator("[data-tick]")
        .getAttribute("data-tick", { timeout: 1_000 })
        .catch(() => null)) ?? "none"
    await until(`the tick of ${JSON.stringify(text)} to be ${states.join(" or ")}`, read, (state) =>
      states.some((one) => one === state)
    )
  }

  /** Waits until the page's title says this. */
  async title(expected: string): Promise<void> {
    await until(
      `${this.name}'s title to be ${expected}`,
      () => this.page.title(),
      (title) => title === expected
    )
  }

  /** Waits until the list shows this many unread messages in a conversation; 0: no badge. */
  async unread(title: string, count: number): Promise<void> {
    await this.line(title).waitFor()
    const badge = this.line(title).locator(".badge")
    const read = async (): Promise<string> =>
      (await badge.count()) === 0 ? "0" : await badge.innerText({ timeout: 1_000 }).catch(() => "0")
    await until(`${count} unread of ${title} at ${this.name}`, read, (text) => text === String(count))
  }

  /** Opens the menu of a message and chooses from it. */
  async choose(text: string, ...items: readonly string[]): Promise<void> {
    await this.row(text).hover()
    await this.row(text).getByRole("button", { name: "Message actions" }).click()
    for (const item of items) await this.page.getByRole("menu").getByText(item, { exact: true }).click()
  }

  /** Keeps a picture of the page in `artifacts/`. */
  async picture(name: string): Promise<void> {
    mkdirSync(artifacts, { recursive: true })
    await this.page.screenshot({ path: `${artifacts}${name}.png` })
  }
}

const same = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((text, index) => text === b[index])

/** Reads until what was read holds; fails with what it read last. Each reading waits for the browser to draw or answer. */
export const until = async <T>(what: string, read: () => Promise<T>, holds: (value: T) => boolean): Promise<T> => {
  const deadline = Date.now() + DEADLINE_MS
  while (true) {
    const value = await read()
    if (holds(value)) return value
    if (Date.now() > deadline)
      throw new Error(`Waited ${DEADLINE_MS / 1000} s for ${what}; there was ${JSON.stringify(value)}`)
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
}
