// Passes over whole rows of logits or weights. Every result is the same to the bit on every processor: each sum has
// one order, nothing is contracted (-ffp-contract=off), and exp is ours.

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__) && !defined(MEDUSA_ONE_TARGET)
#define VECTORS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define VECTORS
#endif
#define PUBLIC extern "C" __attribute__((visibility("default")))
#define INLINED static inline __attribute__((always_inline))

namespace {

constexpr size_t kBlock = 256;  // selecting.BLOCK
constexpr size_t kLanes = 16;   // running sums side by side

INLINED uint32_t bits_of(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}

INLINED float float_of(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}

// For x <= 0, with an error of less than 2 units in the last place; 0 below 2e-38, of which no other is denormal.
// exp(x) = 2^n exp(r), |r| <= ln(2) / 2, by the polynomial of Cephes' expf (Moshier).
INLINED float exp_of(float x) {
    constexpr float kLowest = -87.0f, kRounder = 12582912.0f;  // 1.5 * 2^23: its last bit counts ones
    const float shifted = x * 1.44269504088896341f + kRounder;
    const float n = shifted - kRounder;
    const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    const uint32_t if_normal = -static_cast<uint32_t>(x >= kLowest);
    return float_of((bits_of(p) + (bits_of(shifted) << 23)) & if_normal);
}

INLINED double sum_of_block(const float * weights) {
    double lanes[kLanes] = {};
    for (size_t i = 0; i < kBlock; i += kLanes) {
        for (size_t lane = 0; lane < kLanes; lane++) lanes[lane] += weights[i + lane];
    }
    for (size_t half = kLanes / 2; half; half /= 2) {
        for (size_t lane = 0; lane < half; lane++) lanes[lane] += lanes[lane + half];
    }
    return lanes[0];
}

INLINED void weigh_block(const float * logits, float peak, float scale, float * weights) {
    for (size_t i = 0; i < kBlock; i++) weights[i] = exp_of((logits[i] - peak) * scale);
}

constexpr float kInfinity = __builtin_inff();

// The same of at most a block; what is missing to one weighs nothing.
INLINED void weigh_part(const float * logits, size_t n, float peak, float scale, float * weights) {
    float block[kBlock];
    for (size_t i = 0; i < kBlock; i++) block[i] = i < n ? logits[i] : -kInfinity;
    weigh_block(block, peak, scale, weights);
}

// The block in which a running sum of all weights exceeds a share of them, else the last that weighs anything.
struct Crossed {
    size_t begin, size;
    double rest;  // of the share, after the blocks before it
};

Crossed crossed_block(const double * sums, size_t n, double share) {
    const size_t blocks = (n + kBlock - 1) / kBlock;
    double all = 0.0;
    for (size_t block = 0; block < blocks; block++) all += sums[block];
    const double target = share * all;
    double before = 0.0, running = 0.0;
    size_t chosen = 0;
    for (size_t block = 0; block < blocks; block++) {
        if (sums[block] == 0.0) continue;
        chosen = block;
        before = running;
        running += sums[block];
        if (running > target) break;
    }
    const size_t begin = chosen * kBlock;
    return {begin, begin + kBlock < n ? kBlock : n - begin, target - before};
}

// Where a running sum of [n] weights exceeds a rest, else the heaviest.
size_t crossing_in(const float * weights, size_t n, double rest) {
    size_t heaviest = 0;
    double running = 0.0;
    for (size_t i = 0; i < n; i++) {
        running += weights[i];
        if (running > rest) return i;
        if (weights[i] > weights[heaviest]) heaviest = i;
    }
    return heaviest;
}

// Whether any of [n] numbers is in [low, high].
VECTORS bool any_within(const float * values, size_t n, float low, float high) {
    int any = 0;
    for (size_t i = 0; i < n; i++) any |= (values[i] >= low) & (values[i] <= high);
    return any;
}

// visit(i) for each of [n] numbers, save in groups of which none is in [low, high].
template <class Visit> void visit_groups(const float * values, size_t n, float low, float high, Visit visit) {
    constexpr size_t kGroup = 32;
    for (size_t begin = 0; begin < n; begin += kGroup) {
        const size_t end = begin + kGroup < n ? begin + kGroup : n;
        if (!any_within(values + begin, end - begin, low, high)) continue;
        for (size_t i = begin; i < end; i++) visit(i);
    }
}

// Ascending indices of those in [low, high] for which `is` says so; how many. It says no to what is beyond.
template <class Is> size_t list(const float * values, size_t n, float low, float high, int64_t * indices, Is is) {
    size_t count = 0;
    visit_groups(values, n, low, high, [&](size_t i) {
        indices[count] = static_cast<int64_t>(i);
        count += is(values[i]);
    });
    return count;
}

// Weights are told apart by some of their bits at a time; none is above 1, which has thirty.
constexpr int kFirstBits = 12, kNextBits = 9, kFirstShift = 2 * kNextBits;
constexpr size_t kFirstBuckets = 1 << kFirstBits, kNextBuckets = 1 << kNextBits;

float first_of(size_t bucket) { return float_of(static_cast<uint32_t>(bucket << kFirstShift)); }

// The largest bucket at or above which a sum reaches the target, else the last with anything in it. Adds to `above`
// what the larger ones hold.
size_t bucket_that_reaches(const double * buckets, size_t n, double target, double & above) {
    size_t last = 0;
    double before = above;
    for (size_t bucket = n; bucket-- > 0;) {
        if (buckets[bucket] == 0.0) continue;
        last = bucket;
        before = above;
        above += buckets[bucket];
        if (above >= target) break;
    }
    above = before;
    return last;
}

}  // namespace

// exp((logits - peak) * scale) of [n] logits, none above the peak, if `weights` is not null, and the sums of blocks.
PUBLIC VECTORS void medusa_weigh(const float * logits, size_t n, float peak, float scale, float * weights,
                                 double * sums) {
    float block[kBlock];
    size_t begin = 0;
    for (; begin + kBlock <= n; begin += kBlock) {
        float * weighed = weights ? weights + begin : block;
        weigh_block(logits + begin, peak, scale, weighed);
        *sums++ = sum_of_block(weighed);
    }
    if (begin == n) return;
    weigh_part(logits + begin, n - begin, peak, scale, block);
    if (weights) std::memcpy(weights + begin, block, (n - begin) * sizeof(float));
    *sums = sum_of_block(block);
}

// The sums of blocks of [n] weights.
PUBLIC VECTORS void medusa_block_sums(const float * weights, size_t n, double * sums) {
    size_t begin = 0;
    for (; begin + kBlock <= n; begin += kBlock) *sums++ = sum_of_block(weights + begin);
    if (begin == n) return;
    float last[kBlock] = {};
    std::memcpy(last, weights + begin, (n - begin) * sizeof(float));
    *sums = sum_of_block(last);
}

// The first of [n] weights at which a running sum of all exceeds a share of them; where rounding keeps it from that,
// the largest of the last block that weighs anything. sums: of blocks.
PUBLIC size_t medusa_crossing(const float * weights, size_t n, const double * sums, double share) {
    const Crossed crossed = crossed_block(sums, n, share);
    return crossed.begin + crossing_in(weights + crossed.begin, crossed.size, crossed.rest);
}

// The same of the weights that medusa_weigh makes of [n] logits.
PUBLIC VECTORS size_t medusa_crossing_exponentials(const float * logits, size_t n, float peak, float scale,
                                                   const double * sums, double share) {
    const Crossed crossed = crossed_block(sums, n, share);
    float weights[kBlock];
    weigh_part(logits + crossed.begin, crossed.size, peak, scale, weights);
    return crossed.begin + crossing_in(weights, crossed.size, crossed.rest);
}

// Ascending indices of those of [n] numbers that are at least the limit; how many.
PUBLIC size_t medusa_reaching(const float * values, size_t n, float limit, int64_t * indices) {
    return list(values, n, limit, kInfinity, indices, [&](float value) { return value >= limit; });
}

// Ascending indices of the smallest set of largest weights that hold a share of the sum of all, equal ones by index;
// how many. weights: [n], from 0 to 1. The smallest that is needed is found some bits at a time, from the highest.
PUBLIC size_t medusa_nucleus(const float * weights, size_t n, double sum, double share, int64_t * indices) {
    const double target = share * sum;
    // All that is below an equal share of what is cut off is never needed; the half is for rounding.
    const float lowest = static_cast<float>(0.5 * (sum - target) / static_cast<double>(n));
    double above = 0.0, buckets[2][kFirstBuckets] = {};
    visit_groups(weights, n, lowest, kInfinity, [&](size_t i) {  // neighbours apart: hardly one waits for another's sum
        buckets[i & 1][bits_of(weights[i]) >> kFirstShift] += weights[i];
    });
    for (size_t bucket = 0; bucket < kFirstBuckets; bucket++) buckets[0][bucket] += buckets[1][bucket];
    size_t found = bucket_that_reaches(buckets[0], kFirstBuckets, target, above);
    const float low = first_of(found), high = float_of(bits_of(first_of(found + 1)) - 1);
    size_t count = list(weights, n, low, high, indices, [&](float weight) { return low <= weight && weight <= high; });
    for (int shift = kNextBits; shift >= 0; shift -= kNextBits) {
        double parts[kNextBuckets] = {};
        for (size_t i = 0; i < count; i++) {
            const float weight = weights[indices[i]];
            const size_t bits = bits_of(weight) >> shift;
            if (bits >> kNextBits == found) parts[bits % kNextBuckets] += weight;
        }
        found = found << kNextBits | bucket_that_reaches(parts, kNextBuckets, target, above);
    }
    const float smallest = float_of(static_cast<uint32_t>(found));
    size_t equal = 1;
    while (above + static_cast<double>(equal) * smallest < target && equal < n) equal++;
    return list(weights, n, smallest, kInfinity, indices, [&](float weight) {
        if (weight != smallest) return weight > smallest;
        return equal > 0 && equal-- > 0;
    });
}
