# Builds with the classic builder too: no mounts, no here-documents, no
# platform arguments.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o /out/usr/bin/tentagate ./cmd/tentagate \
 && mkdir -p /out/etc/ssl/certs /out/etc/tentagate/Caddyfile.d /out/data /out/config /out/tmp \
 && cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ \
 && echo "tentagate:x:65532:65532::/data:/sbin/nologin" > /out/etc/passwd \
 && echo "tentagate:x:65532:" > /out/etc/group \
 && chown -R 65532:65532 /out/data /out/config /out/tmp

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
