package version

import "encoding/binary"

// Numbers in keys. Small ones are one byte; others have their length in front,
// so that a longer one is higher; none is too large.
const (
	oneByte   = 0xE0 // numbers below it are their own byte
	hugeTag   = 0xF0 // after it: how many digits, then the digits
	maxDigits = 18   // that surely fit 64 bits
)

// appendNumber appends a number written in decimal digits. No digits are zero.
func appendNumber(dst []byte, digits string) []byte {
	for digits != "" && digits[0] == '0' {
		digits = digits[1:]
	}
	if len(digits) > maxDigits {
		dst = append(dst, hugeTag)
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(digits)))
		return append(dst, digits...)
	}
	var n uint64
	for i := range len(digits) {
		n = n*10 + uint64(digits[i]-'0')
	}
	if n < oneByte {
		return append(dst, byte(n))
	}
	size := 1
	for n>>(8*size) != 0 && size < 8 {
		size++
	}
	dst = append(dst, byte(oneByte+size))
	for i := size - 1; i >= 0; i-- {
		dst = append(dst, byte(n>>(8*i)))
	}
	return dst
}

// appendWord appends text that contains no zero byte so that a shorter word comes
// before a longer one that begins with it. A zero byte ends the word: what is
// behind it does not count, as in C.
func appendWord(dst []byte, tag byte, word string) []byte {
	dst = append(dst, tag)
	for i := range len(word) {
		if word[i] == 0 {
			break
		}
		dst = append(dst, word[i])
	}
	return append(dst, 0)
}

// appendLowered is appendWord with ASCII letters in lower case.
func appendLowered(dst []byte, tag byte, word string) []byte {
	at := len(dst)
	dst = appendWord(dst, tag, word)
	for i := at + 1; i < len(dst); i++ {
		dst[i] = lower(dst[i])
	}
	return dst
}

func isDigit(c byte) bool  { return c-'0' < 10 }
func isLetter(c byte) bool { return c|0x20-'a' < 26 }

func lower(c byte) byte {
	if c-'A' < 26 {
		return c | 0x20
	}
	return c
}

// digits returns how many digits s begins with.
func digits(s string) int {
	i := 0
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	return i
}

// letters returns how many ASCII letters s begins with.
func letters(s string) int {
	i := 0
	for i < len(s) && isLetter(s[i]) {
		i++
	}
	return i
}

func allDigits(s string) bool { return s != "" && digits(s) == len(s) }

// isZero says whether digits are zero.
func isZero(digits string) bool {
	for i := range len(digits) {
		if digits[i] != '0' {
			return false
		}
	}
	return true
}

// foldsTo says whether s is the lower-case word, in whatever case.
func foldsTo(s, word string) bool {
	return len(s) == len(word) && hasFold(s, word)
}

// hasFold says whether s begins with the lower-case word, in whatever case.
func hasFold(s, word string) bool {
	if len(s) < len(word) {
		return false
	}
	for i := range len(word) {
		if lower(s[i]) != word[i] {
			return false
		}
	}
	return true
}
