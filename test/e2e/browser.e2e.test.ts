import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { exportSPKI, generateKeyPair, SignJWT } from "jose"
import type { Browser } from "playwright-core"
import { afterAll, afterEach, assert, beforeAll, describe, test } from "vitest"
import { connect, dmConversation } from "../../src/client/index.ts"
import { launchBrowser, LAPTOP, Person, PHONE, until } from "../support/browser.ts"
import { type RunningServer, startServer } from "../support/server.ts"

let server: RunningServer
let browser: Browser
let people: Person[] = []

beforeAll(async () => {
  // The limits of a person are in the way of a test that writes a thousand messages.
  server = await startServer({ env: { LIMIT_PER_SECOND: "100000", LIMIT_BURST: "100000", LIMIT_IN_FLIGHT: "10000" } })
  browser = await launchBrowser()
})

afterEach(async () => {
  const faults = (await Promise.all(people.map((person) => person.close()))).flat()
  people = []
  assert.deepEqual(faults, [], "pages report no errors")
})

afterAll(async () => {
  await browser?.close()
  await server?.dispose()
})

const enter = async (name: string, device = LAPTOP): Promise<Person> => {
  const person = await Person.loggedIn(browser, server.url, name, device)
  people.push(person)
  return person
}

/** A client of a user, for what nobody has to do by hand. */
const robot = async (user: string) => {
  const response = await fetch(`${server.url}/v1/auth/dev`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ user })
  })
  const { token } = (await response.json()) as { readonly token: string }
  return connect({ url: server.wsUrl, token, user })
}

describe("the web app", () => {
  test("two people chat, and the ticks tell how far each message got", async () => {
    const [ann, bea] = [await enter("ann"), await enter("bea")]
    await ann.chatWith("bea")
    await ann.say("Hello Bea")
    await ann.tick("Hello Bea", "delivered")
    await bea.unread("ann", 1)
    await bea.title("(1) Darda")

    await bea.line("ann").click()
    await bea.sees("Hello Bea")
    await ann.tick("Hello Bea", "seen")
    await bea.title("Darda")
    await bea.unread("ann", 0)

    await bea.writingField.pressSequentially("Hi")
    await ann.page.getByText("bea is typing").waitFor()
    await bea.writingField.press("Shift+Enter")
    await bea.writingField.pressSequentially("Ann")
    await bea.writingField.press("Enter")
    await ann.sees("Hello Bea", "Hi\nAnn")
    await ann.page.getByText("bea is typing").waitFor({ state: "detached" })
    await bea.tick("Hi\nAnn", "seen")
    await ann.page.locator(".thread-head").getByText("online").waitFor()
  })

  test("a message is answered, changed, reacted to and deleted, for everyone", async () => {
    const [ann, bea] = [await enter("ann.2"), await enter("bea.2")]
    await ann.chatWith("bea.2")
    await ann.say("Frist")
    await ann.say("Second")
    await bea.line("ann.2").click()
    await bea.sees("Frist", "Second")

    await ann.choose("Frist", "Edit")
    assert.equal(await ann.writingField.inputValue(), "Frist")
    await ann.say("First")
    await bea.sees("First", "Second")
    await bea.row("First").getByText("edited").waitFor()

    await bea.choose("First", "👍")
    await ann.row("First").getByRole("button", { name: "👍: bea.2" }).click()
    await bea.row("First").getByRole("button", { name: "👍: ann.2, bea.2" }).waitFor()

    await bea.choose("Second", "Reply")
    await bea.say("Third")
    await ann.row("Third").getByRole("button", { name: "Show the message this answers" }).getByText("Second").waitFor()

    await ann.choose("Second", "Delete", "Really delete?")
    await bea.sees("First", "Message deleted", "Third")
    await ann.sees("First", "Message deleted", "Third")
  })

  test("what is written while the server is dead arrives once and in order when it is back, on a third device too", async () => {
    const [ann, bea] = [await enter("ann.3"), await enter("bea.3")]
    await ann.chatWith("bea.3")
    await ann.say("one")
    await ann.tick("one", "delivered")
    await bea.line("ann.3").click()
    await bea.say("two")
    await ann.sees("one", "two")
    await bea.tick("two", "seen")

    await server.kill9()
    await ann.page.getByText("No connection.").waitFor()
    await ann.say("three")
    await ann.say("four")
    await ann.tick("four", "sending")
    await bea.say("five")
    await server.restart()

    await ann.tick("four", "seen")
    await bea.tick("five", "seen")
    // Whose of the two came first is decided by who was back first; one's own order is kept, and both see the same.
    const order = await until(
      "all five at ann.3",
      () => ann.page.locator("li.row .body").allTextContents(),
      (texts) => texts.length === 5
    )
    assert.sameMembers(order, ["one", "two", "three", "four", "five"])
    assert.deepEqual(order.slice(0, 2), ["one", "two"])
    assert.isBelow(order.indexOf("three"), order.indexOf("four"))
    await bea.sees(...order)
    await ann.page.getByText("No connection.").waitFor({ state: "detached" })

    const phone = await enter("ann.3", PHONE)
    await phone.unread("bea.3", 0)
    await phone.line("bea.3").click()
    await phone.sees(...order)
    await phone.say("six, from the phone")
    await ann.sees(...order, "six, from the phone")
    await bea.sees(...order, "six, from the phone")
  })

  test("one whose network is gone comes back and misses nothing, nor does what they wrote get lost", async () => {
    const [ann, bea] = [await enter("ann.4"), await enter("bea.4")]
    await ann.chatWith("bea.4")
    await ann.say("before")
    await ann.tick("before", "delivered")
    await ann.page.context().setOffline(true)
    await ann.page.getByText("You are offline.").waitFor()
    await bea.line("ann.4").click()
    await bea.sees("before")
    const witness = await robot("bea.4")
    const { conv } = await until(
      "the server to know that it was seen",
      () => witness.convs(),
      ({ items }) => items[0]?.unread === 0
    ).then(({ items }) => items[0]!)
    witness.close()
    await ann.page.context().setOffline(false)
    await ann.tick("before", "seen")

    await ann.page.context().setOffline(true)
    await ann.say("written offline")
    await bea.say("missed")
    await bea.tick("missed", "persisted")
    await ann.tick("written offline", "sending")
    await ann.page.context().setOffline(false)
    await ann.tick("written offline", "seen")
    await ann.sees("before", "missed", "written offline")
    await bea.sees("before", "missed", "written offline")
    await bea.tick("missed", "seen")

    // Once more, but the page does not live to see the network again: only its storage is left.
    await ann.page.context().setOffline(true)
    await ann.say("left behind")
    await ann.tick("left behind", "sending")
    await ann.page.goto("about:blank")
    await ann.page.context().setOffline(false)
    await ann.page.goto(`${server.url}/#/c/${conv}`)
    await ann.tick("left behind", "seen")
    await bea.sees("before", "missed", "written offline", "left behind")
  })

  test("the keyboard alone is enough: log in, chat, answer, read on, go back", async () => {
    const friend = await robot("friend")
    await friend.sendAwait({ to: "ann.5", body: "Are you there?" })
    const ann = await Person.atDoor(browser, server.url, "ann.5")
    people.push(ann)
    const { keyboard } = ann.page
    const focused = (): Promise<string> =>
      ann.page.evaluate(() => {
        const at = document.activeElement
        return at?.getAttribute("aria-label") ?? (at instanceof HTMLElement ? at.innerText : "")
      })
    const focus = (what: RegExp): Promise<string> => until(`the focus on ${what}`, focused, (text) => what.test(text))

    await ann.page.locator("input:focus").waitFor()
    await keyboard.type("ann.5")
    await keyboard.press("Enter")
    await ann.line("friend").waitFor()
    await keyboard.press("Tab")
    await focus(/Log out/)
    await keyboard.press("Tab")
    await focus(/New chat/)
    await keyboard.press("Tab")
    await focus(/friend/)
    const outline = await ann.page.evaluate(() => getComputedStyle(document.activeElement as Element).outlineStyle)
    assert.notEqual(outline, "none", "the focus is visible")

    await keyboard.press("Enter")
    await focus(/^Message$/)
    await keyboard.type("Yes")
    await keyboard.press("Enter")
    await ann.sees("Are you there?", "Yes")
    await keyboard.press("ArrowUp")
    await focus(/Yes/)
    await keyboard.press("ArrowUp")
    await focus(/Are you there/)
    await keyboard.press("Enter")
    await focus(/React 👍/)
    await keyboard.press("ArrowDown")
    await focus(/Reply/)
    await keyboard.press("Enter")
    await focus(/^Message$/)
    await keyboard.type("Here I am")
    await keyboard.press("Enter")
    await ann.row("Here I am").getByText("Are you there?").waitFor()

    await keyboard.press("Escape")
    await focus(/friend/)
    assert.equal(new URL(ann.page.url()).hash, "#/")
    await keyboard.press("Shift+Tab")
    await keyboard.press("Enter")
    await keyboard.type("someone.new")
    await keyboard.press("Enter")
    await focus(/^Message$/)
    await ann.page.getByRole("heading", { name: "someone.new" }).waitFor()
    friend.close()
  })

  test("what others write is text and nothing else, in messages and in titles", async () => {
    const evil = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script><b>bold</b>`
    const mallory = await robot("mallory")
    await mallory.sendAwait({ to: "ann.6", body: evil })
    await mallory.sendAwait({ to: "ann.6", body: "javascript:alert(1) and https://example.org/?q=<script>" })
    const { conv } = await mallory.create({ members: ["ann.6"], title: evil })
    await mallory.sendAwait({ conv, body: "in the group" })

    const ann = await enter("ann.6")
    await ann.line(evil).waitFor()
    await ann.line("mallory").click()
    await ann.sees(evil, "javascript:alert(1) and https://example.org/?q=<script>")
    const links = await ann.page.locator("li.row a").evaluateAll((all) => all.map((link) => link.getAttribute("href")))
    assert.deepEqual(links, ["https://example.org/?q="])
    await ann.line(evil).click()
    await ann.page.getByRole("heading", { name: evil }).waitFor()
    await ann.sees("in the group")
    assert.equal(await ann.page.locator("#app img, #app script, #app b").count(), 0)
    await ann.title("Darda")
    mallory.close()
  })

  test("a group is made, grows, gets another title, and loses a member, who is told", async () => {
    const [ann, bea, carl] = [await enter("ann.7"), await enter("bea.7"), await enter("carl.7", PHONE)]
    await ann.button("New chat").click()
    await ann.page.getByRole("radio", { name: "Group" }).check()
    await ann.page.getByLabel("Title").fill("Harbour walk")
    await ann.page.getByLabel("Names").fill("bea.7")
    await ann.button("Create group").click()
    await ann.page.getByRole("heading", { name: "Harbour walk" }).waitFor()
    await ann.say("Welcome")
    await bea.line("Harbour walk").click()
    await bea.row("Welcome").getByText("ann.7", { exact: true }).waitFor()
    await ann.tick("Welcome", "seen")

    await ann.button("Members and title").click()
    await ann.page.getByLabel("Add members").fill("carl.7")
    await ann.button("Add").click()
    await ann.page.getByRole("dialog").getByText("carl.7", { exact: true }).waitFor()
    await carl.line("Harbour walk").click()
    await carl.sees("Welcome")
    await ann.page.getByRole("dialog").getByLabel("Title").fill("Pier walk")
    await ann.button("Rename").click()
    await carl.page.getByRole("heading", { name: "Pier walk" }).waitFor()

    await ann.button("Remove carl.7").click()
    await ann.button("Really remove carl.7").click()
    await carl.page.getByText("You are not a member of this group any more.").waitFor()
    await carl.button("Back to the list").click()
    await carl.page.getByText("No conversations yet.").waitFor()
    await ann.page.keyboard.press("Escape")
    await ann.say("Two of us")
    await bea.sees("Welcome", "Two of us")
  })

  test("a name that is none is refused in the server's words, and the app fits the smallest telephone", async () => {
    const someone = await Person.atDoor(browser, server.url, "", { ...PHONE, viewport: { width: 360, height: 640 } })
    people.push(someone)
    const page = someone.page
    await page.getByLabel("Name", { exact: true }).fill("no spaces please")
    await someone.button("Log in").click()
    const alert = page.locator("#login-problem")
    const said = await until(
      "the server's words",
      () => alert.innerText(),
      (text) => text !== ""
    )
    const answer = await fetch(`${server.url}/v1/auth/dev`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ user: "no spaces please" })
    })
    assert.equal(said, ((await answer.json()) as { readonly detail: string }).detail)

    await page.getByLabel("Name", { exact: true }).fill("ann.8")
    await someone.button("Log in").click()
    await someone.chatWith("x".repeat(128))
    await someone.say("W".repeat(300))
    await someone.tick("W".repeat(300), "persisted")
    const overflow = (): Promise<number> => page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
    assert.equal(await overflow(), 0)
    await someone.button("Back to the list").click()
    await someone.line("x".repeat(128)).waitFor()
    assert.equal(await overflow(), 0)
  })

  test("where names are not taken, a token is, and a refused one is said to be so", async () => {
    const folder = await mkdtemp(join(tmpdir(), "darda-keys-"))
    const { privateKey, publicKey } = await generateKeyPair("ES256", { extractable: true })
    const file = join(folder, "public.pem")
    await writeFile(file, await exportSPKI(publicKey))
    await using other = await startServer({
      env: {
        AUTH: "jwt",
        JWT_PUBLIC_KEY_FILE: file,
        JWT_ALGORITHMS: "ES256",
        JWT_ISSUER: "https://id.example.org",
        JWT_AUDIENCE: "darda",
        CLUSTER_SECRET: "a secret that is long enough for anyone to be content with it"
      }
    })
    const token = (audience: string): Promise<string> =>
      new SignJWT()
        .setProtectedHeader({ alg: "ES256" })
        .setSubject("ann.10")
        .setIssuer("https://id.example.org")
        .setAudience(audience)
        .setIssuedAt()
        .setExpirationTime("1 h")
        .sign(privateKey)

    const ann = await Person.atDoor(browser, other.url, "ann.10")
    people.push(ann)
    await ann.page.getByLabel("Name", { exact: true }).fill("ann.10")
    await ann.button("Log in").click()
    await ann.page.getByText("This server does not log in by name.").waitFor()
    const field = ann.page.getByLabel("Token", { exact: true })
    await field.fill(await token("somebody else"))
    await ann.button("Log in").click()
    await ann.page.getByText("the server did not accept the token").waitFor()
    await ann.button("Log in with a token").click()
    await field.fill(await token("darda"))
    await ann.button("Log in").click()
    await ann.chatWith("ann.10")
    await ann.say("to myself")
    await ann.tick("to myself", "persisted")
    await ann.page.reload()
    await ann.sees("to myself")
    await ann.button("Log out").click()
    await ann.button("Log in").waitFor()
    assert.deepEqual(await ann.page.evaluate(() => Object.keys(localStorage).toSorted()), [
      "darda.device",
      "darda.name"
    ])
    await rm(folder, { recursive: true })
  })

  test("a long history loads as one scrolls up, in one piece, and the page stays small", async () => {
    const COUNT = 1_000
    const friend = await robot("chatty")
    await Promise.all(
      Array.from({ length: COUNT }, (_, at) => friend.sendAwait({ to: "ann.9", body: `Number ${at + 1}` }))
    )
    friend.close()
    const ann = await enter("ann.9")
    await ann.page.goto(`${server.url}/#/c/${dmConversation("ann.9", "chatty")}`)
    await ann.row(`Number ${COUNT}`).waitFor()
    await ann.page.locator(".scroller").hover()
    let least = Infinity
    await until(
      "the first message",
      async () => {
        await ann.page.mouse.wheel(0, -2_000)
        const shown = await ann.page
          .locator("li.row")
          .evaluateAll((rows) => rows.map((row) => Number((row as HTMLElement).dataset["seq"])))
        assert.isAtMost(shown.length, 200, "rows in the document")
        assert.isTrue(
          shown.every((seq, at) => at === 0 || seq === (shown[at - 1] ?? 0) + 1),
          "no message is left out or doubled"
        )
        const first = await ann.page.locator(".scroller").evaluate((scroller) => {
          const { top } = scroller.getBoundingClientRect()
          const row = [...scroller.querySelectorAll<HTMLElement>("li.row")].find(
            (one) => one.getBoundingClientRect().bottom > top
          )
          return Number(row?.dataset["seq"])
        })
        assert.isAtMost(first, least, "what is read does not jump back down")
        // A turn of the wheel is about 50 rows, and a busy browser shows several of them at once; a jump past a page is what must not be.
        assert.isTrue(least === Infinity || least - first <= 200, `nothing is skipped: ${first} after ${least}`)
        least = first
        return first
      },
      (first) => first === 1
    )
    await ann.button("To the newest messages").click()
    await ann.row(`Number ${COUNT}`).waitFor()
  })

  test("looks like this", async () => {
    const others = new Map<string, Awaited<ReturnType<typeof robot>>>()
    for (const name of ["mia", "Noor", "jonas.k"]) others.set(name, await robot(name))
    const [mia, noor, jonas] = [...others.values()]
    const laptop = await enter("Lena")
    const { conv } = await mia!.create({ members: ["Lena", "Noor", "jonas.k"], title: "Sunday hike" })
    await mia!.sendAwait({ conv, body: "Weather looks fine. Shall we meet at the station at nine?" })
    await jonas!.sendAwait({ conv, body: "Nine works. I bring tea." })
    await jonas!.sendAwait({ conv, body: "And the map: https://example.org/trails" })
    await noor!.sendAwait({ to: "Lena", body: "See you tomorrow!" })
    await laptop.line("Sunday hike").click()
    await laptop.say("Wonderful, I take care of the sandwiches for everyone.")
    await noor!.sendAwait({ conv, body: "Count me in 🎉" })
    await laptop.choose("Nine works. I bring tea.", "👍")
    await laptop.choose("Count me in 🎉", "Reply")
    await laptop.say("Great to have you with us!")
    await laptop.tick("Great to have you with us!", "persisted")
    for (const other of others.values()) other.mark(conv, { seen: other.lastSeq(conv) })
    await laptop.tick("Wonderful, I take care of the sandwiches for everyone.", "seen")
    mia!.typing(conv, true)
    await laptop.page.getByText("mia is typing").waitFor()
    await laptop.picture("laptop-light")
    await laptop.page.emulateMedia({ colorScheme: "dark" })
    await laptop.picture("laptop-dark")

    const phone = await enter("Lena", PHONE)
    await phone.line("Sunday hike").waitFor()
    await phone.picture("phone-list-light")
    await phone.line("Sunday hike").click()
    await phone.row("Great to have you with us!").waitFor()
    await phone.picture("phone-light")
    await phone.page.emulateMedia({ colorScheme: "dark" })
    await phone.picture("phone-dark")
    for (const other of others.values()) other.close()
  })
})
