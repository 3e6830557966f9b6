// Does this CPU run what a compiler makes of llama.cpp's AMX code? Exit status 0: it does, or these
// flags give no AMX code. 1: the kernel refuses the permission. 2: a product is wrong. A death by a
// signal is the fault that this program is looking for.
//
// Two faults are known (llama.cpp #20824 and #26954). The kernel lets a process use tiles only on
// request, and llama.cpp asks in one thread and computes in others. And GCC's _tile_loadconfig
// tells the optimizer that it reads 8 of the configuration's 64 bytes: where the configuration is a
// local variable, the stores to the rest are dropped, and ldtilecfg meets what earlier calls left
// on the stack. Zeros there would hide that, so the stack is filled with ones first.

#include <immintrin.h>

// The condition under which llama.cpp compiles its AMX code.
#if defined(__AMX_INT8__) && defined(__AVX512VNNI__)

#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <thread>
#include <vector>

namespace {

constexpr int kRows = 16, kColumns = 16, kDepth = 32, kGroup = 4;

struct TileConfig {
    uint8_t palette = 0;
    uint8_t start_row = 0;
    uint8_t reserved[14] = {0};
    uint16_t row_bytes[16] = {0};
    uint8_t rows[16] = {0};
};

bool may_use_tiles() {
    constexpr long kRequestPermission = 0x1023, kTileData = 18;
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

__attribute__((noinline)) void soil_stack() {
    volatile uint8_t bytes[1 << 14];
    for (auto &byte : bytes) {
        byte = 0xff;
    }
}

// A function of its own, so that the configuration dies right after the instruction and the
// optimizer is free to drop what it believes unread. Whether llama.cpp's copy suffers the same
// depends on where it is inlined.
__attribute__((noinline)) void configure_tiles() {
    alignas(64) TileConfig config = {};
    config.palette = 1;
    config.rows[0] = kDepth / kGroup;
    config.row_bytes[0] = kColumns * kGroup;
    config.rows[2] = kRows;
    config.row_bytes[2] = kDepth;
    config.rows[4] = kRows;
    config.row_bytes[4] = kColumns * sizeof(int32_t);
    _tile_loadconfig(&config);
}

// `right` is in groups of four along the depth, as the instruction wants it.
__attribute__((noinline)) void multiply(const int8_t *left, const int8_t *right, int32_t *product) {
    _tile_loadd(0, right, kColumns * kGroup);
    _tile_zero(4);
    _tile_loadd(2, left, kDepth);
    _tile_dpbssd(4, 2, 0);
    _tile_stored(4, product, kColumns * sizeof(int32_t));
}

int8_t left_value(int i, int k) { return static_cast<int8_t>(i * 7 - k * 5); }
int8_t right_value(int k, int j) { return static_cast<int8_t>(k * 3 - j * 11); }

bool product_is_right() {
    std::vector<int8_t> left(kRows * kDepth), right(kDepth * kColumns);
    std::vector<int32_t> product(kRows * kColumns), expected(kRows * kColumns);
    for (int k = 0; k < kDepth; ++k) {
        for (int i = 0; i < kRows; ++i) {
            left[i * kDepth + k] = left_value(i, k);
        }
        for (int j = 0; j < kColumns; ++j) {
            right[(k / kGroup * kColumns + j) * kGroup + k % kGroup] = right_value(k, j);
        }
    }
    for (int i = 0; i < kRows; ++i) {
        for (int j = 0; j < kColumns; ++j) {
            for (int k = 0; k < kDepth; ++k) {
                expected[i * kColumns + j] += left_value(i, k) * right_value(k, j);
            }
        }
    }
    soil_stack();
    configure_tiles();
    multiply(left.data(), right.data(), product.data());
    return product == expected;
}

}  // namespace

int main() {
    if (!may_use_tiles()) {
        std::puts("the kernel refuses the permission");
        return 1;
    }
    bool is_right = false;
    std::thread([&] { is_right = product_is_right(); }).join();
    if (!is_right) {
        std::puts("a product is wrong");
        return 2;
    }
    return 0;
}

#else

int main() { return 0; }

#endif
