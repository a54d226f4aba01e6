package oci

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Limits on what is read whole.
const (
	// maxManifest bounds a manifest, an index and an archive's table of
	// contents: registries themselves refuse manifests beyond 4 MiB.
	maxManifest = 4 << 20
	// maxConfig bounds an image's configuration. Of images with a hundred layers
	// some reach a megabyte, most of it labels and history.
	maxConfig = 8 << 20
	// maxDocuments bounds all of them that one reference leads to, so that an
	// index of many large ones costs bounded time and traffic.
	maxDocuments = 64 << 20

	// maxManifests bounds the entries of one index. Those of multi-platform
	// images have some dozens, a layout that serves as a cache thousands.
	maxManifests = 4096
	// maxNesting is how deep indexes may hold indexes. A layout's own, an
	// image's and one more have been seen.
	maxNesting = 3
	// maxLayers bounds the layers of an image: engines stop at 127, the kernel's
	// overlay file system at 500.
	maxLayers = 1000
	// maxHistory bounds the steps of a build; those without a layer come on top.
	maxHistory = 10_000
	// maxWords bounds each list and table of a configuration: arguments,
	// variables, ports, volumes, labels.
	maxWords = 4096
	// maxText bounds one text of a configuration. Longer ones are cut: a shell
	// script in a build step has been seen to reach 20 KiB.
	maxText = 64 << 10
	// maxShown bounds foreign text in an error.
	maxShown = 200
	// maxArtifact bounds the file of an artifact: the advisory database of
	// everything that is published has a tenth of a gigabyte.
	maxArtifact = 4 << 30
	// maxListed bounds the images that an error lists as the choice there is.
	maxListed = 20
)

// Limits on archives.
const (
	// maxEntries bounds the entries of an archive: an image has three to five a
	// layer, an archive of a whole host's images some ten thousand.
	maxEntries = 100_000
	// maxName bounds an entry's name, as Linux bounds a path, and maxNames all of
	// them together, which are kept: tools use some hundred bytes for each.
	maxName  = 4096
	maxNames = 16 << 20
	// maxWasted bounds what is read of a stream only to get past it, which a
	// bomb could make take hours. Attestations are of this kind; large ones have
	// some hundred megabytes.
	maxWasted = 1 << 30
	// maxLinks is how many links may lead from one to the next; the kernel stops
	// at 40.
	maxLinks = 40
)

// Limits on the conversation with a registry.
const (
	// maxErrorBody is how much of an error page is read for its message.
	maxErrorBody = 64 << 10
	// maxRedirects is how often a registry may send elsewhere for one answer;
	// those seen send once, to where their blobs are stored.
	maxRedirects = 5
	// maxAttempts is how often a request is sent in all when the registry is
	// busy or the network fails.
	maxAttempts = 4
	// firstPause is the pause before the second attempt; each one is twice the
	// one before.
	firstPause = 500 * time.Millisecond
	// maxRetryAfter is how long a registry may have us wait before the next
	// attempt. One that wants longer is told of instead of waited for.
	maxRetryAfter = time.Minute
	// maxResumes is how often a layer's broken stream is taken up again.
	maxResumes = 10

	// dialWithin, shakeWithin and answerWithin bound the steps up to the first
	// byte of an answer; a registry that reads a layer from cold storage takes
	// some seconds.
	dialWithin   = 15 * time.Second
	shakeWithin  = 15 * time.Second
	answerWithin = time.Minute
	// stallWithin is how long stallBytes may take to arrive, counting only time
	// spent waiting for them: slower is a connection that hangs.
	stallWithin = time.Minute
	stallBytes  = 64 << 10
	// enteredFor is how long the right to read a repository is used for further
	// images. Passwords that a cloud gives end, ECR's after hours; whoever gives
	// them sees to it that they last longer than this.
	enteredFor = 10 * time.Minute
	// configuredFor is how long a configuration of a watched registry holds after
	// its last use: longer than the scan of one image takes.
	configuredFor = time.Hour
	// helperWithin is how long a credential helper may take. It may ask a person
	// to unlock a key ring.
	helperWithin = 30 * time.Second
	// maxHelperAnswer bounds what it says.
	maxHelperAnswer = 1 << 20
	// maxDockerConfig bounds the docker command's configuration file.
	maxDockerConfig = 4 << 20
)

// DefaultRate is how many requests a second a watched registry is asked at most,
// where nothing else is configured: public registries begin to refuse at some
// dozens.
const DefaultRate = 10

// Limits on listing what a registry holds.
const (
	// localRate is DefaultRate of a registry on this machine, which answers
	// nobody else.
	localRate = 1000
	// pageSize is how many names a page is asked for. Registries give fewer if
	// they like; distribution refuses to give more.
	pageSize = 1000
	// maxListing bounds one page: a registry that knows no pages answers with all
	// tags at once, 60,000 of the longest in this.
	maxListing = 8 << 20
	// maxPages bounds the pages of one list, however few names they have.
	maxPages = 10_000
	// maxRepositories bounds the repositories of a registry, ten times what ECR
	// permits.
	maxRepositories = 100_000
	// maxTags bounds the tags of a repository that are asked for. A repository
	// that has one for every build of ten years has some ten thousand.
	maxTags = 50_000
	// listers is how many tags of a repository are asked for at once, as many as
	// connections are kept open.
	listers = 8
	// maxUnlisted is how many tags may fail before a repository is given up.
	maxUnlisted = 20
	// maxVerdicts bounds the digests that are remembered as being of images or
	// not, of some hundred bytes each.
	maxVerdicts = 100_000
	// maxStrikes is how often a pause is doubled while a registry stays too busy;
	// the next would be longer than maxRetryAfter.
	maxStrikes = 7
	// maxPause bounds how long a registry is left alone at its own word: Docker
	// Hub counts by six hours.
	maxPause = 6 * time.Hour
)

// cut shortens foreign text to at most limit bytes of valid UTF-8.
func cut(s string, limit int) string {
	const mark = "…"
	s = strings.ToValidUTF8(s, string(utf8.RuneError))
	if len(s) <= limit {
		return s
	}
	end := limit - len(mark)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + mark
}

// shown is foreign text fit for an error.
func shown(s string) string { return cut(s, maxShown) }
