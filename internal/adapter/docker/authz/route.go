package authz

import (
	"strings"

	"github.com/castellan-security/castellan/internal/admission"
)

// kind says how a call is read.
type kind uint8

const (
	harmless  kind = iota // reads, ends or removes: passes at once
	plain                 // decided by its address and its name alone
	create                // a container is made
	start                 // a container starts, or goes on
	exec                  // a process is prepared in a container
	execStart             // and started
	attach                // to what a container says and reads
	change                // of a container
	inside                // about the files of a container
	pull                  // of an image
	making                // of a volume or a network
	barred                // refused: what it starts, no plugin is asked about
)

// body says what must be known of the body of a call.
type body uint8

const (
	none   body = iota // it takes none, and none must be hidden
	needed             // JSON, and it must have been handed over
	maybe              // JSON or none, and it must be known which
	stream             // something else, which no plugin sees
)

// route is a call of Docker's interface. In patterns, {} is one segment and {*}
// one or more.
type route struct {
	method, pattern string
	name            string
	kind            kind
	action          admission.Action
	body            body
}

// routes are all calls of Docker's interface, from 1.21 to 1.56.
func routes() []route {
	return append(append(containerRoutes(), imageRoutes()...), engineRoutes()...)
}

func containerRoutes() []route {
	return []route{
		{"GET", "/containers/json", "container list", harmless, "", none},
		{"GET", "/containers/{}/json", "container inspect", harmless, "", none},
		{"GET", "/containers/{}/top", "container top", harmless, "", none},
		{"GET", "/containers/{}/logs", "container logs", harmless, "", none},
		{"GET", "/containers/{}/changes", "container changes", harmless, "", none},
		{"GET", "/containers/{}/stats", "container stats", harmless, "", none},
		{"HEAD", "/containers/{}/archive", "container stat", harmless, "", none},
		{"GET", "/exec/{}/json", "exec inspect", harmless, "", none},
		{"POST", "/containers/{}/stop", "container stop", harmless, "", none},
		{"POST", "/containers/{}/kill", "container kill", harmless, "", none},
		{"POST", "/containers/{}/pause", "container pause", harmless, "", none},
		{"POST", "/containers/{}/wait", "container wait", harmless, "", none},
		{"POST", "/containers/{}/resize", "container resize", harmless, "", none},
		{"POST", "/exec/{}/resize", "exec resize", harmless, "", none},
		{"DELETE", "/containers/{}", "container remove", harmless, "", none},
		{"GET", "/containers/{}/checkpoints", "checkpoint list", harmless, "", none},
		{"DELETE", "/containers/{}/checkpoints/{}", "checkpoint remove", harmless, "", none},

		{"POST", "/containers/create", "container create", create, admission.Run, needed},
		{"POST", "/containers/{}/start", "container start", start, admission.Run, none},
		{"POST", "/containers/{}/restart", "container restart", start, admission.Run, none},
		{"POST", "/containers/{}/unpause", "container unpause", start, admission.Run, none},
		{"POST", "/containers/{}/exec", "exec create", exec, admission.Exec, needed},
		{"POST", "/exec/{}/start", "exec start", execStart, admission.Exec, maybe},
		{"POST", "/containers/{}/attach", "container attach", attach, admission.Exec, none},
		{"GET", "/containers/{}/attach/ws", "container attach", attach, admission.Exec, none},
		{"POST", "/containers/{}/update", "container update", change, admission.Change, needed},
		{"POST", "/containers/{}/rename", "container rename", change, admission.Change, none},
		{"POST", "/containers/{}/logs/clear", "container logs clear", change, admission.Change, none},
		{"POST", "/containers/{}/checkpoints", "checkpoint create", change, admission.Change, maybe},
		{"PUT", "/containers/{}/archive", "container archive put", inside, admission.Copy, stream},
		{"GET", "/containers/{}/archive", "container archive get", inside, admission.Copy, none},
		{"POST", "/containers/{}/copy", "container archive get", inside, admission.Copy, maybe},
		{"GET", "/containers/{}/export", "container export", inside, admission.Copy, none},
		{"POST", "/containers/prune", "container prune", plain, admission.Engine, none},
		{"POST", "/commit", "container commit", plain, admission.Build, maybe},
	}
}

func imageRoutes() []route {
	return []route{
		{"GET", "/images/json", "image list", harmless, "", none},
		{"GET", "/images/search", "image search", harmless, "", none},
		{"GET", "/images/get", "image save", harmless, "", none},
		{"GET", "/images/{*}/get", "image save", harmless, "", none},
		{"GET", "/images/{*}/json", "image inspect", harmless, "", none},
		{"GET", "/images/{*}/history", "image history", harmless, "", none},
		{"GET", "/images/{*}/attestations", "image attestations", harmless, "", none},
		{"DELETE", "/images/{*}", "image remove", harmless, "", none},
		{"GET", "/distribution/{*}/json", "image distribution", harmless, "", none},
		{"POST", "/build/cancel", "build cancel", harmless, "", none},

		{"POST", "/images/create", "image pull", pull, admission.Pull, stream},
		{"POST", "/images/load", "image load", plain, admission.Pull, stream},
		{"POST", "/images/prune", "image prune", plain, admission.Engine, none},
		{"POST", "/images/{*}/push", "image push", plain, admission.Engine, none},
		{"POST", "/images/{*}/tag", "image tag", plain, admission.Build, none},
		{"POST", "/build", "image build", plain, admission.Build, stream},
		{"POST", "/build/prune", "build prune", plain, admission.Engine, none},
		{"POST", "/session", "build session", plain, admission.Build, stream},
		{"POST", "/grpc", "build grpc", plain, admission.Build, stream},
	}
}

func engineRoutes() []route {
	return []route{
		{"GET", "/_ping", "ping", harmless, "", none},
		{"HEAD", "/_ping", "ping", harmless, "", none},
		{"GET", "/version", "version", harmless, "", none},
		{"GET", "/info", "info", harmless, "", none},
		{"GET", "/events", "events", harmless, "", none},
		{"GET", "/system/df", "disk usage", harmless, "", none},
		{"POST", "/auth", "registry login", harmless, "", none},
		{"OPTIONS", "/{*}", "options", harmless, "", none},
		{"GET", "/debug/{*}", "debug", plain, admission.Engine, none},

		{"GET", "/volumes", "volume list", harmless, "", none},
		{"GET", "/volumes/{}", "volume inspect", harmless, "", none},
		{"DELETE", "/volumes/{}", "volume remove", harmless, "", none},
		{"POST", "/volumes/create", "volume create", making, admission.Engine, needed},
		{"PUT", "/volumes/{}", "volume update", plain, admission.Engine, needed},
		{"POST", "/volumes/prune", "volume prune", plain, admission.Engine, none},

		{"GET", "/networks", "network list", harmless, "", none},
		{"GET", "/networks/{}", "network inspect", harmless, "", none},
		{"DELETE", "/networks/{}", "network remove", harmless, "", none},
		{"POST", "/networks/{}/disconnect", "network disconnect", harmless, "", none},
		{"POST", "/networks/create", "network create", making, admission.Engine, needed},
		{"POST", "/networks/{}/connect", "network connect", making, admission.Engine, needed},
		{"POST", "/networks/prune", "network prune", plain, admission.Engine, none},

		{"GET", "/plugins", "plugin list", harmless, "", none},
		{"GET", "/plugins/privileges", "plugin privileges", harmless, "", none},
		{"GET", "/plugins/{*}/json", "plugin inspect", harmless, "", none},
		{"DELETE", "/plugins/{*}", "plugin remove", plain, admission.Engine, none},
		{"POST", "/plugins/pull", "plugin install", plain, admission.Engine, maybe},
		{"POST", "/plugins/create", "plugin create", plain, admission.Engine, stream},
		{"POST", "/plugins/{*}/enable", "plugin enable", plain, admission.Engine, none},
		{"POST", "/plugins/{*}/disable", "plugin disable", plain, admission.Engine, none},
		{"POST", "/plugins/{*}/upgrade", "plugin upgrade", plain, admission.Engine, maybe},
		{"POST", "/plugins/{*}/set", "plugin set", plain, admission.Engine, maybe},
		{"POST", "/plugins/{*}/push", "plugin push", plain, admission.Engine, none},

		{"GET", "/swarm", "swarm inspect", harmless, "", none},
		{"GET", "/swarm/unlockkey", "swarm unlock key", barred, admission.Engine, none},
		{"POST", "/swarm/leave", "swarm leave", harmless, "", none},
		{"POST", "/swarm/{}", "swarm change", barred, admission.Engine, maybe},
		{"GET", "/nodes", "node list", harmless, "", none},
		{"GET", "/nodes/{}", "node inspect", harmless, "", none},
		{"DELETE", "/nodes/{}", "node remove", harmless, "", none},
		{"POST", "/nodes/{}/update", "node update", barred, admission.Engine, maybe},
		{"GET", "/services", "service list", harmless, "", none},
		{"GET", "/services/{}", "service inspect", harmless, "", none},
		{"GET", "/services/{}/logs", "service logs", harmless, "", none},
		{"DELETE", "/services/{}", "service remove", harmless, "", none},
		{"POST", "/services/create", "service create", barred, admission.Engine, maybe},
		{"POST", "/services/{}/update", "service update", barred, admission.Engine, maybe},
		{"GET", "/tasks", "swarm task list", harmless, "", none},
		{"GET", "/tasks/{}", "swarm task inspect", harmless, "", none},
		{"GET", "/tasks/{}/logs", "swarm task logs", harmless, "", none},
		{"GET", "/secrets", "secret list", harmless, "", none},
		{"GET", "/secrets/{}", "secret inspect", harmless, "", none},
		{"DELETE", "/secrets/{}", "secret remove", harmless, "", none},
		{"POST", "/secrets/create", "secret create", barred, admission.Engine, maybe},
		{"POST", "/secrets/{}/update", "secret update", barred, admission.Engine, maybe},
		{"GET", "/configs", "config list", harmless, "", none},
		{"GET", "/configs/{}", "config inspect", harmless, "", none},
		{"DELETE", "/configs/{}", "config remove", harmless, "", none},
		{"POST", "/configs/create", "config create", barred, admission.Engine, maybe},
		{"POST", "/configs/{}/update", "config update", barred, admission.Engine, maybe},
	}
}

// find returns the route of a call and what stands for the first {} or {*}.
// Routes are tried in the order of the table, so that exact ones come before
// those with a name in their place where both are there.
func find(table []route, method, path string) (r route, what string, ok bool) {
	best := -1
	for i, candidate := range table {
		if candidate.method != method {
			continue
		}
		name, fits := match(candidate.pattern, path)
		if !fits {
			continue
		}
		if best < 0 || exactness(candidate.pattern) > exactness(table[best].pattern) {
			best, what = i, name
		}
	}
	if best < 0 {
		return route{}, "", false
	}
	return table[best], what, true
}

// exactness orders patterns that fit the same path: those without a name first,
// then those with a name of one segment; longer ones before shorter ones.
func exactness(pattern string) int {
	const exact, one = 1 << 16, 1 << 8
	switch {
	case !strings.Contains(pattern, "{"):
		return exact
	case !strings.Contains(pattern, "{*}"):
		return one + len(pattern)
	}
	return len(pattern)
}

// match holds a path against a pattern.
func match(pattern, path string) (what string, ok bool) {
	before, after, wild := strings.Cut(pattern, "{*}")
	if wild {
		rest, begins := strings.CutPrefix(path, before)
		what, ends := strings.CutSuffix(rest, after)
		return what, begins && ends && what != "" && len(path) > len(before)+len(after)-1
	}
	for more := true; more; {
		var want, got string
		var also bool
		want, pattern, more = strings.Cut(pattern, "/")
		got, path, also = strings.Cut(path, "/")
		switch {
		case more != also:
			return "", false
		case want == "{}" && got != "":
			if what == "" {
				what = got
			}
		case want != got:
			return "", false
		}
	}
	return what, true
}
