# Sourced by the other scripts: makes a virtual environment inside the clone that holds this package.
# It never touches anything outside its folder, and a second run costs nothing while pyproject.toml stands.

# find_python: prints the first Python that is new enough; $PYTHON is the only one asked when it is set.
find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3 python3.12 python3.13 python}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    echo "Python 3.11 or newer is needed; name it: PYTHON=/path/to/python3.11 bash $0" >&2
    return 1
}

# make_environment FOLDER [EXTRAS]: FOLDER/bin/python holds the package, editable, with its extras.
make_environment() {
    local folder=$1 extras=${2:-} python stamp
    python=$(find_python)
    stamp="$("$python" --version) $python $PWD $extras $(cksum <pyproject.toml)"
    if [[ -x $folder/bin/python && $(cat "$folder/.stamp" 2>/dev/null) == "$stamp" ]]; then
        return
    fi
    echo "installing into $folder (the first time takes a minute or two)"
    "$python" -m venv --clear "$folder"
    echo '*' >"$folder/.gitignore"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".$extras"
    echo "$stamp" >"$folder/.stamp"
}

# make_peers: .peers holds other people's sellers, buyers and a local chain, pinned in tests/interop/; Node 20 is needed.
make_peers() {
    local python stamp folder=.peers pins=tests/interop
    python=$(find_python)
    stamp="$("$python" --version) $python $PWD $(cat $pins/requirements.txt $pins/package-lock.json | cksum)"
    if [[ $(cat "$folder/.stamp" 2>/dev/null) == "$stamp" ]]; then
        return
    fi
    if ! command -v npm >/dev/null; then
        echo "Node 20 with npm is needed for the other sellers and buyers the tests deal with" >&2
        return 1
    fi
    echo "installing other people's sellers, buyers and a chain into $folder (two minutes, the first time)"
    rm -rf "$folder"
    mkdir -p "$folder/node"
    echo '*' >"$folder/.gitignore"
    cp "$pins/package.json" "$pins/package-lock.json" "$folder/node/"
    # Not "npm ci": the lock names no download addresses, and without them npm forgets other platforms' optional parts.
    (cd "$folder/node" && npm install --ignore-scripts --no-audit --no-fund --loglevel=error) &
    "$python" -m venv "$folder/python"
    "$folder/python/bin/python" -m pip install -qq --disable-pip-version-check -r "$pins/requirements.txt"
    wait $! || return 1
    echo "$stamp" >"$folder/.stamp"
}
