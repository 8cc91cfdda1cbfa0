# The image for two platforms, with an SBOM and the provenance attached:
#
#   docker buildx bake --push
#   REGISTRY=myregistry.azurecr.io VERSION=v0.1.0 docker buildx bake --push
#
# A platform other than the machine's is built under emulation (QEMU), which is slow:
# the workflow for releases builds each on a machine of its own.
variable "REGISTRY" {
  default = "ghcr.io/pythopus"
}

variable "VERSION" {
  default = "devel"
}

variable "REVISION" {
  default = ""
}

# Seconds since 1970. BuildKit dates the image with it.
variable "SOURCE_DATE_EPOCH" {
  default = "0"
}

group "default" {
  targets = ["image"]
}

target "image" {
  context    = "."
  dockerfile = "Dockerfile"
  args = {
    VERSION           = VERSION
    REVISION          = REVISION
    SOURCE_DATE_EPOCH = SOURCE_DATE_EPOCH
  }
  # Tags of images have no leading v, as in the manifests.
  tags      = ["${REGISTRY}/tentagate:${trimprefix(VERSION, "v")}"]
  platforms = ["linux/amd64", "linux/arm64"]
  attest = [
    "type=provenance,mode=max",
    "type=sbom",
  ]
}

# For this machine, into Docker's own images: docker buildx bake local
target "local" {
  inherits  = ["image"]
  tags      = ["tentagate"]
  platforms = []
  attest    = []
  output    = ["type=docker"]
}
