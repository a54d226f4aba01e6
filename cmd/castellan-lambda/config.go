package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/adapter/lambda"
	"github.com/castellan-security/castellan/internal/fault"
)

// Names of the environment variables.
const (
	envOnError     = "CASTELLAN_ON_ERROR"           // deny (default) or allow
	envTimeLimit   = "CASTELLAN_TIME_LIMIT"         // for one invocation: 20s
	envAsks        = "CASTELLAN_ASKS"               // how often ECS is told to ask again: 20
	envServer      = "CASTELLAN_SERVER"             // https://host:port
	envTokenSecret = "CASTELLAN_TOKEN_SECRET"       // ARN of the secret or parameter with an API token
	envFingerprint = "CASTELLAN_CA_FINGERPRINT"     // of the server's certificate authority
	envBundle      = "CASTELLAN_BUNDLE"             // s3://BUCKET/KEY, or a file of the package
	envBundleKey   = "CASTELLAN_BUNDLE_KEY"         // public key in PEM, or a file of the package
	envBundleLeast = "CASTELLAN_BUNDLE_MIN_VERSION" // older bundles are refused
	envStopTasks   = "CASTELLAN_STOP_TASKS"         // true: EventBridge's door stops what is refused
	envSpare       = "CASTELLAN_SPARE"              // patterns of cluster/service that it leaves alone, by comma
	envReadRoles   = "CASTELLAN_READ_ROLES"         // false: IAM is not asked what roles permit
)

// mostTime bounds the time limit: Lambda gives 15 minutes, and CloudFormation waits
// for 30 seconds.
const mostTime = 5 * time.Minute

// config is what the environment says.
type config struct {
	onError                          lambda.OnError
	within                           time.Duration
	asks                             int
	server, tokenSecret, fingerprint string
	bundle                           string
	bundleKey                        []byte
	least                            uint64
	stopTasks, readRoles             bool
	spared                           []string
}

// readConfig reads the environment, and tells all that is wrong with it.
func readConfig(getenv func(string) string) (config, error) {
	c := config{server: getenv(envServer), tokenSecret: getenv(envTokenSecret), fingerprint: getenv(envFingerprint), bundle: getenv(envBundle)}
	var wrong []error
	no := func(name, format string, args ...any) { wrong = append(wrong, fmt.Errorf(name+": "+format, args...)) }
	switch c.onError = lambda.OnError(getenv(envOnError)); c.onError {
	case "":
		c.onError = lambda.DenyOnError
	case lambda.DenyOnError, lambda.AllowOnError:
	default:
		no(envOnError, "%.40q is neither deny nor allow", string(c.onError))
	}
	var err error
	if v := getenv(envTimeLimit); v != "" {
		if c.within, err = time.ParseDuration(v); err != nil || c.within < time.Second || c.within > mostTime {
			no(envTimeLimit, "%.40q is no time between 1s and %v", v, mostTime)
		}
	}
	if v := getenv(envAsks); v != "" {
		if c.asks, err = strconv.Atoi(v); err != nil || c.asks < 0 {
			no(envAsks, "%.40q is no number from 0 on", v)
		}
		if c.asks == 0 {
			c.asks = -1 // never
		}
	}
	c.stopTasks = truth(getenv(envStopTasks), false, func() { no(envStopTasks, "it is neither true nor false") })
	c.readRoles = truth(getenv(envReadRoles), true, func() { no(envReadRoles, "it is neither true nor false") })
	for p := range strings.SplitSeq(getenv(envSpare), ",") {
		if p = strings.TrimSpace(p); p == "" {
			continue
		}
		if _, err := path.Match(p, ""); err != nil || strings.Count(p, "/") != 1 {
			no(envSpare, "%.100q is no pattern of cluster/service", p)
		}
		c.spared = append(c.spared, p)
	}
	switch {
	case c.server == "" && c.bundle == "":
		no(envServer, "nothing decides: name a server, or a bundle by %s", envBundle)
	case c.server != "" && c.bundle != "":
		no(envServer, "there is %s, too: one of them decides", envBundle)
	case c.server != "":
		c.checkServer(no)
	default:
		c.readBundle(getenv, no)
	}
	if len(wrong) > 0 {
		return c, fault.New(fault.Invalid, "configuration: %w", errors.Join(wrong...)).With("see docs/admission-aws.md for the environment of the function")
	}
	return c, nil
}

// truth reads a switch.
func truth(v string, otherwise bool, wrong func()) bool {
	switch v {
	case "":
		return otherwise
	case "true":
		return true
	case "false":
		return false
	}
	wrong()
	return otherwise
}

func (c *config) checkServer(no func(name, format string, args ...any)) {
	if u, err := url.Parse(c.server); err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "" && u.Path != "/" || u.User != nil {
		no(envServer, "%.200q is no address as https://host:port", c.server)
	}
	if c.tokenSecret == "" {
		no(envTokenSecret, "it is empty: name the secret that has a token with the scope admission:decide")
	}
}

// maxKeys bounds the file of public keys.
const maxKeys = 64 << 10

func (c *config) readBundle(getenv func(string) string, no func(name, format string, args ...any)) {
	key := getenv(envBundleKey)
	switch {
	case key == "":
		no(envBundleKey, "it is empty: give the public key of whoever signs bundles")
	case strings.Contains(key, "-----BEGIN"):
		// Variables that came through a console often have their lines in one.
		c.bundleKey = []byte(strings.ReplaceAll(key, `\n`, "\n"))
	default:
		b, err := os.ReadFile(key)
		if err != nil || len(b) > maxKeys {
			no(envBundleKey, "it is neither a key in PEM nor a small file with one: %.200q", key)
		}
		c.bundleKey = b
	}
	if v := getenv(envBundleLeast); v != "" {
		var err error
		if c.least, err = strconv.ParseUint(v, 10, 64); err != nil {
			no(envBundleLeast, "%.40q is no version", v)
		}
	}
}
