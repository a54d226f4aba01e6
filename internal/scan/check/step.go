package check

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/castellan-security/castellan/internal/finding"
	"github.com/castellan-security/castellan/internal/scan/blueprint"
	"github.com/castellan-security/castellan/internal/scan/judge"
)

// stepChecks are checks about single instructions, of Dockerfiles and of the
// history that images tell.
func stepChecks() []Check {
	return []Check{
		{ID: "CAST-IMAGE-004", Title: "ADD fetches from the internet", Severity: finding.Medium,
			Why:       "What the address answers on the day of the build becomes part of the image, with nobody to vouch for it.",
			Remedy:    "Give --checksum, or fetch with RUN, check the digest, and remove the archive in the same step.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 4.9"}, Checkov: []string{"CKV_DOCKER_4"}},
			find: steps(func(_ *blueprint.Build, s *blueprint.Step, hits report) {
				if s.Word != "ADD" || hasFlag(s, "--checksum") {
					return
				}
				for _, w := range strings.Fields(s.Args) {
					w = strings.Trim(w, `[]",`)
					if strings.HasPrefix(w, "http://") || strings.HasPrefix(w, "https://") {
						hits(hit{at: s.At, layer: s.Layer, subject: plainURL(w), evidence: "ADD " + plainURL(w)})
					}
				}
			})},
		{ID: "CAST-IMAGE-005", Title: "ADD where COPY would do", Severity: finding.Negligible,
			Why:       "ADD unpacks archives and fetches addresses: what it does depends on what it is given.",
			Remedy:    "Use COPY for what is not to be unpacked.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 4.9"}, Checkov: []string{"CKV_DOCKER_4"}},
			find: steps(func(b *blueprint.Build, s *blueprint.Step, hits report) {
				if s.Word == "ADD" && b.Origin == blueprint.BuildFile && !strings.Contains(s.Args, "://") && !strings.Contains(s.Args, "git@") && !archive().MatchString(s.Args) {
					hits(hit{at: s.At, subject: clip(s.Args), evidence: "ADD " + clip(s.Args)})
				}
			})},
		{ID: "CAST-IMAGE-012", Title: "What the internet answers is executed", Severity: finding.Medium,
			Why:       "A script that is piped into a shell is checked by nobody, and may be another one for the build than for a reader.",
			Remedy:    "Fetch it at a fixed version, compare its digest, then run it; or install a package.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 4.11"}},
			find: runs(func(_ *blueprint.Build, s *blueprint.Step, hits report) {
				if piped().MatchString(s.Args) || substituted().MatchString(s.Args) {
					hits(hit{at: s.At, layer: s.Layer, subject: clip(s.Args), evidence: "RUN " + aroundDownload(s.Args)})
				}
			})},
	}
}

// habits are checks about what steps should not do.
func habits() []Check {
	return []Check{
		{ID: "CAST-IMAGE-014", Title: "sudo is used", Severity: finding.Low,
			Why:       "In a build sudo changes nothing, for it is root already; left in the image it is a set-uid program that leads there.",
			Remedy:    "Leave it out; switch users with USER.",
			Elsewhere: finding.Elsewhere{Checkov: []string{"CKV2_DOCKER_1"}},
			find: runs(func(_ *blueprint.Build, s *blueprint.Step, hits report) {
				if s.Last && sudo().MatchString(s.Args) {
					hits(hit{at: s.At, layer: s.Layer, subject: clip(s.Args), evidence: "RUN " + around(s.Args, sudo())})
				}
			})},
		{ID: "CAST-IMAGE-017", Title: "Package lists are updated in a step of their own", Severity: finding.Negligible,
			Why:       "The step is cached: later builds install from lists of then, and miss the fixes since.",
			Remedy:    "Update and install in one RUN.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 4.7"}, Checkov: []string{"CKV_DOCKER_5"}},
			find: runs(func(b *blueprint.Build, s *blueprint.Step, hits report) {
				if b.Origin == blueprint.BuildFile && updateAlone().MatchString(strings.TrimSpace(s.Args)) {
					hits(hit{at: s.At, subject: clip(s.Args), evidence: "RUN " + clip(s.Args)})
				}
			})},
		{ID: "CAST-IMAGE-018", Title: "Checks of what is fetched are switched off", Severity: finding.Medium,
			Why:    "Whoever is between the build and the server decides what goes into the image.",
			Remedy: "Install the certificate authority or the key that is missing, and leave the check on.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 4.11"}, Checkov: []string{"CKV2_DOCKER_2", "CKV2_DOCKER_3", "CKV2_DOCKER_4", "CKV2_DOCKER_5", "CKV2_DOCKER_6",
				"CKV2_DOCKER_7", "CKV2_DOCKER_8", "CKV2_DOCKER_9", "CKV2_DOCKER_11", "CKV2_DOCKER_12", "CKV2_DOCKER_13", "CKV2_DOCKER_14", "CKV2_DOCKER_15", "CKV2_DOCKER_16"}},
			find: steps(func(_ *blueprint.Build, s *blueprint.Step, hits report) {
				if s.Word != "RUN" && s.Word != "ENV" || len(s.Args) > maxValue {
					return
				}
				if m := strings.TrimSpace(unchecked().FindString(s.Args)); m != "" {
					hits(hit{at: s.At, layer: s.Layer, subject: clip(m), evidence: s.Word + " … " + clip(m)})
				}
			})},
		{ID: "CAST-IMAGE-019", Title: "Files are made writable for everybody", Severity: finding.Low,
			Why:    "Any process in the container can then change what another one, or root, will run.",
			Remedy: "Give the files to the user who needs them: COPY --chown, chown.",
			find: runs(func(_ *blueprint.Build, s *blueprint.Step, hits report) {
				if s.Last && openMode().MatchString(s.Args) {
					hits(hit{at: s.At, layer: s.Layer, subject: clip(s.Args), evidence: "RUN … " + clip(openMode().FindString(s.Args))})
				}
			})},
		{ID: SecretInStep, Title: "Secret stands in a step", Severity: finding.High,
			Why:       "The step is in the image's history, and the secret with it.",
			Remedy:    "Use RUN --mount=type=secret, and change it: it is known.",
			Elsewhere: finding.Elsewhere{CIS: []string{"Docker 1.6 4.10"}, Checkov: []string{"CKV2_DOCKER_17"}},
			find: runs(func(_ *blueprint.Build, s *blueprint.Step, hits report) {
				for _, m := range chpasswd().FindAllStringSubmatch(s.Args, -1) {
					hits(hit{at: s.At, layer: s.Layer, subject: "password of " + m[1], evidence: "chpasswd is given the password of " + m[1]})
				}
				for _, f := range judge.Words(strings.Fields(s.Args)) {
					hits(hit{at: s.At, layer: s.Layer, subject: "argument " + f.Name, evidence: fmt.Sprintf("argument %s holds %s", f.Name, f.Kind)})
				}
			})},
		{ID: "CAST-IMAGE-006", Title: "Package cache is left in the layer", Severity: finding.Negligible,
			Why:    "It makes every pull slower, and shows what was installed from where.",
			Remedy: "Remove the cache in the same RUN, or mount it: RUN --mount=type=cache.",
			find:   runs(leftCache)},
	}
}

// runs makes a finder of a function about one RUN.
func runs(about func(*blueprint.Build, *blueprint.Step, report)) finder {
	return steps(func(b *blueprint.Build, s *blueprint.Step, hits report) {
		if s.Word == "RUN" && len(s.Args) <= maxValue {
			about(b, s, hits)
		}
	})
}

var (
	archive     = lazily(`(?i)\.(tar|tgz|tbz2?|txz|tzst|tar\.\w+|gz|bz2|xz|zst)(["\s]|$)|file:[0-9a-f]{6}`)
	piped       = lazily(`\b(curl|wget|fetch)\b[^|&;\n]*\|[&]?\s*(sudo\s+(-\w+\s+)*)?(/?\w+/)*(env\s+)?(ba|da|z|k|a)?sh\b|\b(curl|wget)\b[^|&;\n]*\|\s*(sudo\s+(-\w+\s+)*)?(python[0-9.]*|perl|ruby|node|php)\b(\s+-(\s|$)|\s*($|[&;]))`)
	substituted = lazily(`\b((ba|da|z|k|a)?sh|eval)\b[^|&;\n]*(<\(|\$\(|` + "`" + `)\s*(curl|wget)\b`)
	sudo        = lazily(`(?m)(^|[;&|(]|\bthen\b|\bdo\b)\s*sudo\s`)
	updateAlone = lazily(`^((apt-get|apt|apk|yum|dnf|microdnf|zypper)\s+(-\w+\s+|--[\w-]+\s+)*(update|check-update|refresh)(\s+-\w+|\s+--[\w-]+)*)$`)
	unchecked   = lazily(`\bcurl\b[^|&;\n]*\s(-[a-zA-Z]*k[a-zA-Z]*|--insecure)(\s|$)|\bwget\b[^|&;\n]*--no-check-certificate|--allow-unauthenticated\b|--force-yes\b|\bapk\b[^|&;\n]*--allow-untrusted\b|--nogpgcheck\b|\bpip3?\b[^|&;\n]*--trusted-host\b|\bnpm\b[^|&;\n]*strict-ssl[ =]"?false|NODE_TLS_REJECT_UNAUTHORIZED[ =]"?0|PYTHONHTTPSVERIFY[ =]"?0|(?i:NPM_CONFIG_STRICT_SSL)[ =]"?false|PIP_TRUSTED_HOST[ =]|sslverify=(false|0|no)|\bgit\b[^|&;\n]*http\.sslVerify[ =]"?false|GIT_SSL_NO_VERIFY[ =]"?(true|1)`)
	chpasswd    = lazily(`echo\s+(?:-\w+\s+)?['"]?([A-Za-z_][\w-]*):[^'"\s|$][^'"|$]*['"]?\s*\|\s*(?:/\w+/)*(?:\w+/)*chpasswd`)
	// handedOver are credentials that a program is given by an option whose name does
	// not tell: a user with a password, and headers.
	handedOver = lazily(`\b(?:curl|wget|http|https|xh|aria2c)\b[^|&;\n]*(?:\s-[a-zA-Z]*[uU]\s*=?|\s--(?:proxy-)?user[\s=]|\s--auth[\s=]|\s-a\s)\s*["']?[^\s:"']+:[^\s"']` +
		`|(?i)\b(?:proxy-)?authorization["']?\s*[:=]|\b(?:basic|bearer)\s+[a-z0-9._~+/=-]{6,}|\b(?:x-)?[a-z-]*(?:-token|api-?key|access-key|secret)["']?\s*:\s*[^\s"']|\bcookie\s*:`)
	openMode = lazily(`\bchmod\b(\s+-\w+|\s+--\w+)*\s+(0?[0246]?[0-7][0-7][2367]|[augo]*a[augo]*\+[rx]*w[rwx]*|o\+[rx]*w[rwx]*|\+[rx]*w[rwx]*w)\b`)
)

// leftCache is a Dockerfile's RUN that installs and leaves the cache behind; of
// images the files themselves tell.
func leftCache(b *blueprint.Build, s *blueprint.Step, hits report) {
	if b.Origin != blueprint.BuildFile || !s.Last {
		return
	}
	for _, f := range s.Flags {
		if strings.HasPrefix(f, "--mount=") && strings.Contains(f, "type=cache") {
			return
		}
	}
	for _, m := range []struct {
		installs *regexp.Regexp
		cleans   []string
		what     string
	}{
		{aptInstall(), []string{"/var/lib/apt/lists", "rm -rf /var/lib/apt", "/var/lib/apt"}, "the lists of apt"},
		{apkAdd(), []string{"--no-cache", "/var/cache/apk", "apk cache clean"}, "the cache of apk"},
		{yumInstall(), []string{"clean all", "/var/cache/yum", "/var/cache/dnf", "/var/cache"}, "the cache of yum or dnf"},
	} {
		if !m.installs.MatchString(s.Args) {
			continue
		}
		cleaned := false
		for _, c := range m.cleans {
			cleaned = cleaned || strings.Contains(s.Args, c)
		}
		if !cleaned {
			hits(hit{at: s.At, subject: m.what, evidence: m.what + " stay in the layer"})
		}
	}
}

var (
	aptInstall = lazily(`\b(apt-get|apt|aptitude)\b[^|&;\n]*\binstall\b`)
	apkAdd     = lazily(`\bapk\b[^|&;\n]*\badd\b`)
	yumInstall = lazily(`\b(yum|dnf|microdnf)\b[^|&;\n]*\binstall\b`)
)

func hasFlag(s *blueprint.Step, name string) bool {
	for _, f := range s.Flags {
		if f == name || strings.HasPrefix(f, name+"=") {
			return true
		}
	}
	return strings.Contains(s.Args, name+"=")
}

// plainURL is an address without what may be secret in it.
func plainURL(u string) string {
	scheme, rest, _ := strings.Cut(u, "://")
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		rest = rest[at+1:]
	}
	rest, _, _ = strings.Cut(rest, "?")
	return scheme + "://" + clip(rest)
}

// clip keeps the beginning of a step. What looks like a secret is not shown.
func clip(s string) string {
	const enough = 80
	s = strings.Join(strings.Fields(s[:min(len(s), maxValue)]), " ")
	if judge.MayHold(s) || handedOver().MatchString(s) || chpasswd().MatchString(s) {
		return "… (with a secret)"
	}
	if len(s) > enough {
		return strings.ToValidUTF8(s[:enough], "") + "…"
	}
	return s
}

// around shows the part of a step that a pattern meets.
func around(s string, re *regexp.Regexp) string {
	at := re.FindStringIndex(s)
	if at == nil {
		return clip(s)
	}
	begin := strings.LastIndexAny(s[:at[0]], ";&|\n") + 1
	return clip(strings.TrimSpace(s[begin:]))
}

func aroundDownload(s string) string {
	if piped().MatchString(s) {
		return around(s, piped())
	}
	return around(s, substituted())
}
