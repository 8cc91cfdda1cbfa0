#!/bin/bash
# Packs the files of Swagger UI that the docs page needs. The package is unpacked,
# not installed: it has an install script among its dependencies.
#
#	bash apidocs/ui/update.sh 5.35.0
set -euo pipefail
version=${1:?version of swagger-ui-dist}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm pack "swagger-ui-dist@$version" --silent >/dev/null
tar xzf swagger-ui-dist-*.tgz
for file in swagger-ui-bundle.js swagger-ui.css; do
	gzip -9 -n -c "package/$file" >"$here/$file.gz"
done
cat package/LICENSE package/NOTICE package/swagger-ui-bundle.js.LICENSE.txt >"$here/LICENSE.txt"
cp package/favicon-32x32.png "$here/favicon.png"
echo "$version" >"$here/VERSION"
