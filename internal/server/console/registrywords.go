package console

import (
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/server/registries"
	"github.com/castellan-security/castellan/internal/store"
)

const (
	tagsShown    = 5  // of one image of a registry
	entriesShown = 20 // places of one image
)

// registryTally says how much a registry holds and what of it is still to do.
func registryTally(d registryData) string {
	t := d.Totals
	words := []string{plural(t.Images(), "image", "images") + " in " + plural(t.Repositories, "repository", "repositories")}
	for _, s := range []struct {
		n    int
		says string
	}{
		{waits(t), "to be scanned"}, {t.States[store.RegistryFailed], "failed"}, {t.States[store.RegistrySkipped], "no images"},
		{t.States[store.RegistryLeft], "left out by the rules"}, {t.States[store.RegistryGone], "gone"},
	} {
		if s.n > 0 {
			words = append(words, count(s.n)+" "+s.says)
		}
	}
	return strings.Join(words, " · ")
}

// worstOf returns the counts of the platform with most, and whether any was
// compared.
func worstOf(m store.RegistryImage) (worst store.Counts, known bool) {
	for _, p := range m.Platforms {
		if p.Matched.IsZero() {
			continue
		}
		if c := p.Counts; !known || c.Critical > worst.Critical || c.Critical == worst.Critical && c.High > worst.High {
			worst = c
		}
		known = true
	}
	return worst, known
}

func kindWords(s registries.Spec) string {
	word := "the distribution API"
	if s.Kind == "ecr" {
		word = "the API of Amazon ECR"
	}
	if s.PlainHTTP {
		word += ", without TLS"
	}
	return word
}

// keepWords say what the rules of a registry leave.
func keepWords(s registries.Spec) string {
	switch {
	case s.Keep > 0 && s.MaxAge != "":
		return "the newest " + count(s.Keep) + " of each repository, not older than " + s.MaxAge
	case s.Keep > 0:
		return "the newest " + count(s.Keep) + " of each repository"
	case s.MaxAge != "":
		return "what is not older than " + s.MaxAge
	}
	return "all"
}

// toldWords say how a registry tells of changes by itself.
func toldWords(v registries.View) string {
	switch {
	case v.Webhook && v.Queue != "":
		return "its webhook, and its queue"
	case v.Webhook:
		return "its webhook"
	case v.Queue != "":
		return "its queue"
	}
	return "nothing: it is only asked"
}

// heldWords say how much a repository holds.
func heldWords(r store.RegistryRepository) string {
	says := plural(r.Images, "image", "images")
	if r.Left > 0 {
		says += ", " + count(r.Left) + " left out"
	}
	return says
}

// nextWords say when something happens.
func nextWords(at, now time.Time) string {
	d := at.Sub(now)
	switch {
	case d <= 0:
		return "now"
	case d < time.Minute:
		return "within a minute"
	}
	if minutes := int(d.Round(time.Minute).Minutes()); minutes < 120 {
		return "in " + count(minutes) + " min"
	}
	return "in " + count(int(d.Round(time.Hour).Hours())) + " h"
}

// untilLook says when a registry that was not looked at yet is.
func untilLook(d registryData, now time.Time) string {
	if d.Poll.Next.IsZero() {
		return ", which begins at once"
	}
	return ", " + nextWords(d.Poll.Next, now)
}
