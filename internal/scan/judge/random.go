package judge

import (
	"math"
	"strings"
)

// Entropy is Shannon's, as gitleaks counts it: of runes over bytes.
func Entropy(s string) float64 {
	var ascii [128]int
	var wide map[rune]int
	for _, r := range s {
		if r < 128 {
			ascii[r]++
			continue
		}
		if wide == nil {
			wide = map[rune]int{}
		}
		wide[r]++
	}
	var sum float64
	per := 1 / float64(len(s))
	add := func(n int) {
		if n > 0 {
			p := float64(n) * per
			sum -= p * math.Log2(p)
		}
	}
	for _, n := range ascii {
		add(n)
	}
	for _, n := range wide {
		add(n)
	}
	return sum
}

// LooksRandom says that a value has letters and digits mixed, as drawn ones have,
// or is long and has letters of both cases that make no words.
func LooksRandom(v string) bool {
	const least = 3.0
	return mixed(v) && Entropy(v) > least || drawn(v)
}

// drawn says that a value is long, of letters of both cases, and no word or name.
func drawn(v string) bool {
	const leastLength, least = 16, 3.5
	return len(v) >= leastLength && strings.ToLower(v) != v && strings.ToUpper(v) != v && !strings.ContainsAny(v, " -_./:@,!?") && !Wordy(v) && Entropy(v) > least
}

// Weak says that a password is short, or nothing but a word.
func Weak(v string) bool { return len(v) < LeastToken || !LooksRandom(v) }

// mixed says that a value has letters and digits.
func mixed(v string) bool {
	digit, letter := false, false
	for i := range len(v) {
		digit = digit || v[i] >= '0' && v[i] <= '9'
		letter = letter || isLetter(v[i])
	}
	return digit && letter
}

// Wordy says that at least half of a value is words, as names in programs are.
func Wordy(v string) bool {
	words := 0
	for i := 0; i < len(v); {
		n := 0
		for i+n < len(v) && isLetter(v[i+n]) {
			n++
		}
		digit := i+n+1 < len(v) && v[i+n] >= '0' && v[i+n] <= '9' && isLetter(v[i+n+1])
		if isNameLike(v[i:i+n]) && !digit { // a digit among letters: they are no word
			words += n
		}
		i += n + 1
	}
	return 2*words >= len(v)
}

// isNameLike says that letters are words as names have them: all in one case, or
// each with a capital, and capitals alone at the end at most. Short ones there are
// among long ones only.
func isNameLike(s string) bool {
	const least, long = 2, 4
	if len(s) <= least {
		return false
	}
	capitals := strings.TrimRight(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
	if capitals == "" {
		return true
	}
	if len(s)-len(capitals) > 1 {
		s = capitals
	}
	from, longest := 0, 0
	for i := 1; i <= len(s); i++ {
		if i < len(s) && s[i] >= 'a' {
			continue
		}
		if i-from < least {
			return false
		}
		longest = max(longest, i-from)
		from = i
	}
	return longest >= min(long, len(s))
}

// Named says that a value is a name of several words as programs write them, with
// acronyms and a version: facilityIPv4Prefix. Drawn values have more capitals and
// digits.
func Named(v string) bool {
	const maxDigits, least, letters = 2, 10, 4 // of so many signs one is a capital at most
	digits, capitals, humps := 0, 0, 0
	for i := range len(v) {
		switch c := v[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c >= 'A' && c <= 'Z':
			capitals++
			if i > 0 && v[i-1] >= 'a' && v[i-1] <= 'z' {
				humps++
			}
		case c < 'a' || c > 'z':
			return false
		}
	}
	return len(v) >= least && humps > 0 && digits <= maxDigits && capitals*letters <= len(v)
}
