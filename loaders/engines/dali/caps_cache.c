/* Stands before the driver's libnvcuvid in a process and remembers what it says about its decoders.
 *
 * See caps_cache.py, which compiles this file with the sizes of NVIDIA's struct CUVIDDECODECAPS:
 * KEY_BYTES are the question at its start, CAPS_BYTES are all of it. This library needs the
 * driver's, so all other functions of NVDEC are found there.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

enum { MAX_ANSWERS = 256, NOT_FOUND = 500 /* CUDA_ERROR_NOT_FOUND */ };

typedef int (*Ask)(unsigned char *);
typedef int (*GetDevice)(int *);

static struct {
    int device;
    unsigned char caps[CAPS_BYTES];
} answers[MAX_ANSWERS];
static int num_answers;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Read and set by caps_cache.py. */
int caps_cache_is_on = 1;
long caps_cache_num_questions, caps_cache_num_asked;

static int current_device(int *device) {
    /* The CUDA library of this process; RTLD_NOLOAD, because this is not the place to load it. */
    void *cuda = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    if (cuda == NULL)
        return NOT_FOUND;
    GetDevice get = (GetDevice)dlsym(cuda, "cuCtxGetDevice");
    int status = get == NULL ? NOT_FOUND : get(device);
    dlclose(cuda);
    return status;
}

static int answer(unsigned char *caps) {
    Ask ask = (Ask)dlsym(RTLD_NEXT, "cuvidGetDecoderCaps");
    if (ask == NULL)
        return NOT_FOUND;
    int device = -1;
    int is_kept = caps_cache_is_on && current_device(&device) == 0;
    for (int n = 0; is_kept && n < num_answers; n++) {
        if (answers[n].device == device && memcmp(answers[n].caps, caps, KEY_BYTES) == 0) {
            memcpy(caps, answers[n].caps, CAPS_BYTES);
            return 0;
        }
    }
    caps_cache_num_asked++;
    int status = ask(caps);
    if (is_kept && status == 0 && num_answers < MAX_ANSWERS) {
        answers[num_answers].device = device;
        memcpy(answers[num_answers].caps, caps, CAPS_BYTES);
        num_answers++;
    }
    return status;
}

int cuvidGetDecoderCaps(unsigned char *caps) {
    pthread_mutex_lock(&lock);
    caps_cache_num_questions++;
    int status = answer(caps);
    pthread_mutex_unlock(&lock);
    return status;
}
