# Builds with the classic builder too, as `az acr build` has no other: no mounts, no
# here-documents, no platform arguments.
#
#   docker build -t tentagate --build-arg VERSION=v0.1.0 --build-arg REVISION=$(git rev-parse HEAD) .
#
# The name of the stage below, or the image to build in.
ARG GO=golang

# The only base, pinned by the digest of its index. Dependabot moves both forward; it
# reads FROM alone, not the default of an ARG.
FROM golang:1.26.8-trixie@sha256:bdca99a00bc16590cb1a0bb4e698f5fc5d6a64e4d5eef13d9f18a0ee08e5fa65 AS golang

# The default is repeated for older versions of buildah and podman, which do not see that
# of the ARG when they look for stages that are used.
FROM ${GO:-golang} AS build
WORKDIR /src
# What the image is built from, in the binary and its labels.
ARG VERSION=devel
ARG REVISION=
# Seconds since 1970 that files in the image are dated, so that two builds are equal.
ARG SOURCE_DATE_EPOCH=0
ENV CGO_ENABLED=0 GOFLAGS=-trimpath GOTOOLCHAIN=local
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN go build -ldflags "-s -w -buildid= -X github.com/pythopus/tentagate/internal/version.linked=${VERSION} -X github.com/pythopus/tentagate/internal/version.revision=${REVISION}" \
      -o /out/usr/bin/tentagate ./cmd/tentagate \
 && mkdir -p /out/etc/ssl/certs /out/etc/tentagate/Caddyfile.d /out/data /out/config /out/tmp \
 && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ \
 && echo "tentagate:x:65532:65532::/data:/sbin/nologin" > /out/etc/passwd \
 && echo "tentagate:x:65532:" > /out/etc/group \
 && chown -R 65532:65532 /out/data /out/config /out/tmp \
 && find /out -exec touch -h -d "@${SOURCE_DATE_EPOCH}" {} +

FROM scratch
COPY --from=build --chown=65532:65532 /out/data /data
COPY --from=build --chown=65532:65532 /out/config /config
COPY --from=build --chown=65532:65532 /out/tmp /tmp
COPY --from=build /out/etc /etc
COPY --from=build /out/usr /usr
ENV XDG_DATA_HOME=/data XDG_CONFIG_HOME=/config HOME=/data METRICS_LISTEN=:9090
USER 65532:65532
WORKDIR /etc/tentagate
# 8000 the gateway, 8443 TLS, 9090 metrics and probes, not to be published
EXPOSE 8000 8443 8443/udp 9090
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["/usr/bin/tentagate", "healthcheck"]
ENTRYPOINT ["/usr/bin/tentagate"]
CMD ["gateway"]
ARG VERSION=devel
ARG REVISION=
LABEL org.opencontainers.image.title="TentaGate" \
      org.opencontainers.image.description="An API gateway made of Caddy modules" \
      org.opencontainers.image.source="https://github.com/pythopus/tentagate" \
      org.opencontainers.image.documentation="https://github.com/pythopus/tentagate/tree/main/docs" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
