# syntax=docker/dockerfile:1
# One image for all roles: `docker build -t darda .`, then `docker run darda serve --roles …`.
#
# The tag says which Node.js and which Debian; what it points to may still be rebuilt. Whoever needs the same bytes every time appends the
# digest that `docker buildx imagetools inspect node:24.21.0-bookworm-slim` prints: --build-arg NODE=node:24.21.0-bookworm-slim@sha256:…
ARG NODE=docker.io/library/node:24.21.0-bookworm-slim

# The web app: plain files, built with everything that is installed for development.
FROM ${NODE} AS web
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --ignore-scripts
COPY tsconfig.json ./
COPY src ./src
COPY web ./web
RUN ["node", "node_modules/vite/bin/vite.js", "build", "web"]

# What runs: none of it is compiled, and none has an install script.
FROM ${NODE} AS packages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --omit=dev --ignore-scripts

FROM ${NODE}
# A folder for the embedded engines, for who mounts a volume there. Processes of a cluster keep nothing on disk.
RUN install -d -o 10001 -g 10001 -m 0700 /data && rm -rf /usr/local/lib/node_modules /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/corepack /opt/yarn*
WORKDIR /app
COPY --from=packages /app/node_modules ./node_modules
COPY package.json LICENSE ./
COPY bin ./bin
COPY src ./src
COPY k8s/engines/mongodb/*.ts ./k8s/engines/mongodb/
COPY --from=web /app/web/dist ./web/dist
ENV NODE_ENV=production DATA_DIR=/data NODE_OPTIONS=--max-semi-space-size=16
# By number, so that Kubernetes can see that it is not root. The files above are root's: the process cannot change its own program.
USER 10001:10001
EXPOSE 8080
ENTRYPOINT ["node", "/app/bin/darda.js"]
CMD ["serve"]
